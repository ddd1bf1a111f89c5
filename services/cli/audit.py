"""``switchboard audit``: questions to the log itself. Every answer cites the position that it rests on."""

from __future__ import annotations

import json
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from contracts import topics
from contracts.message import rfc3339
from services.audit import anchor as anchors
from services.audit import log as logs
from services.audit import trail as trails
from services.audit.as_of import Moment, Then, channel_at, channels_at, moment
from services.audit.difference import patch, words
from services.audit.leaves import leaves_of
from services.audit.replay import Replayed, replay
from services.audit.verify import Report, verify
from services.cli.reading import answered, now_ms, opened, progress_bar, require_name, size_of
from services.cli.undo import undo_

app = typer.Typer(help="Questions to the log itself.", no_args_is_help=True)

Copy = Annotated[Path | None, typer.Option("--from", help="a copy of the log, instead of the broker's")]
Channel = Annotated[str | None, typer.Option(help="one channel")]
Account = Annotated[str | None, typer.Option(help="one account")]
_ROWS_A_TABLE = 200


def _print(answer: Any) -> None:
    typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))


def _one_of(channel: str | None, account: str | None) -> None:
    from services.cli.main import Unusable

    require_name("--channel", channel)
    require_name("--account", account)
    if (channel is None) == (account is None):
        raise Unusable("Name either --channel or --account.")


@app.command("log")
def log_(
    channel: Channel = None,
    account: Account = None,
    actor: Annotated[str | None, typer.Option(help="who asked")] = None,
    type_: Annotated[str | None, typer.Option("--type", help="of the event, the command, or the rejection")] = None,
    since: Annotated[str | None, typer.Option(help="a time; from then on")] = None,
    until: Annotated[str | None, typer.Option(help="a time; before then")] = None,
    table: Annotated[bool | None, typer.Option("--table/--jsonl", help="default: a table on a terminal")] = None,
    copy: Copy = None,
) -> None:
    """Events and rejections: who, from where, before and after. Reveals are among them."""
    require_name("--channel", channel)
    require_name("--account", account)
    asked = trails.Asked(channel, account, actor, type_, _instant("--since", since), _instant("--until", until))
    as_table = sys.stdout.isatty() if table is None else table
    answered(_log(asked, copy, as_table=as_table))


def _instant(option: str, text: str | None) -> int | None:
    from services.cli.main import Unusable

    if text is None:
        return None
    wanted = answered(_moment(text))
    if wanted.version is not None:
        raise Unusable(f"{option} is {text!r}; it must be a time, like 2026-11-22T08:00:00Z.")
    return now_ms() if wanted.time is None else wanted.time


async def _moment(text: str) -> Moment:
    return moment(text)


async def _log(asked: trails.Asked, copy: Path | None, *, as_table: bool) -> None:
    rows: list[trails.Entry] = []
    async with opened(copy) as log:
        total = await size_of(log, topics.EVENTS.name, topics.OUTCOMES.name, channel=asked.channel)
        with progress_bar("reading", total) as moved:
            async with aclosing(trails.trail(log, asked, moved)) as entries:
                async for entry in entries:
                    if not as_table:
                        typer.echo(json.dumps(entry.answer(), ensure_ascii=False))
                        continue
                    rows.append(entry)
                    if len(rows) == _ROWS_A_TABLE:
                        _table(rows)
                        rows.clear()
    if rows:
        _table(rows)


def _table(entries: list[trails.Entry]) -> None:
    table = Table("Time", "Channel", "Ver.", "What", "Who, from where", "Before → after", "Position")
    for entry in entries:
        what = entry.type if entry.rejection is None else f"{entry.command or '?'}: {entry.rejection}"
        who = f"{entry.actor or '–'}, {entry.source or '–'}"
        version = "" if entry.version is None else str(entry.version)
        position = (
            f"{entry.position.topic.removeprefix('switchboard.')}/{entry.position.partition}/{entry.position.offset}"
        )
        # Text from outside is no markup, and no escape sequences reach the terminal.
        cells = (entry.time, entry.channel, version, what, who, _before_after(entry), position)
        table.add_row(*(_plain(cell) for cell in cells))
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape("".join(character if character.isprintable() or character == "\n" else "�" for character in text))


def _before_after(entry: trails.Entry) -> str:
    if entry.message is not None:
        return entry.message
    was, becomes = entry.before or {}, entry.after or {}
    lines = []
    for path in sorted(was.keys() | becomes.keys()):
        one, other = (_short(values[path]) if path in values else "–" for values in (was, becomes))
        lines.append(f"{path}: {one} → {other}")
    return "\n".join(lines[:8] + (["…"] if len(lines) > 8 else []))


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:60] + "…"


@app.command("at")
def at(
    when: Annotated[str, typer.Argument(metavar="TIME|VERSION", help="like 2026-11-22T08:00:00Z, 7, or now")],
    channel: Channel = None,
    account: Account = None,
    copy: Copy = None,
) -> None:
    """A channel's settings, or an account's, as they were then; a line of JSON for each channel of an account."""
    _one_of(channel, account)
    for thens in answered(_thens([when], channel, account, copy)):
        if channel is not None:
            _print(thens[0].answer())
        else:
            typer.echo(json.dumps(thens[0].answer(), ensure_ascii=False))


async def _thens(texts: list[str], channel: str | None, account: str | None, copy: Path | None) -> list[list[Then]]:
    moments = [moment(text) for text in texts]
    async with opened(copy) as log:
        with progress_bar("reading", await size_of(log, topics.EVENTS.name, channel=channel)) as moved:
            if channel is not None:
                return [await channel_at(log, channel, moments, now_ms(), moved)]
            return await channels_at(log, moments, now_ms(), account=account, progress=moved)


@app.command("diff")
def diff(
    one: Annotated[str, typer.Argument(metavar="A", help="a time or a version")],
    other: Annotated[str, typer.Argument(metavar="B", help="a time or a version")],
    channel: Channel = None,
    account: Account = None,
    as_json: Annotated[bool, typer.Option("--json", help="the words and the JSON Patch, as JSON")] = False,
    copy: Copy = None,
) -> None:
    """What changed from A to B: in words, and as a JSON Patch (RFC 6902) of the settings."""
    _one_of(channel, account)
    answers = [difference(thens[0], thens[1]) for thens in answered(_thens([one, other], channel, account, copy))]
    if account is not None:
        answers = [answer for answer in answers if answer["words"] or answer["patch"]]
    if as_json:
        _print(answers[0] if channel is not None else answers)
        return
    for answer in answers:
        typer.echo(f"{answer['channel']}, from {one} to {other}:")
        for sentence in answer["words"] or ["Nothing differs."]:
            typer.echo(f"  {sentence}")
        for end in ("from", "to"):
            rests_on = answer[end]["rests_on"]
            where = "no event" if rests_on is None else "{topic}/{partition}/{offset}".format(**rests_on)
            typer.echo(f"  {answer[end]['at']} rests on {where}")
            for note in answer[end]["notes"]:
                typer.echo(f"  Note: {note}")
        typer.echo("  " + json.dumps(answer["patch"], ensure_ascii=False))


def difference(before: Then, after: Then) -> dict[str, Any]:
    """The answer to `diff`, as JSON."""
    ends = {
        name: {key: value for key, value in then.answer().items() if key not in ("settings", "channel")}
        for name, then in (("from", before), ("to", after))
    }
    said = words(leaves_of(before.state, before.clock), leaves_of(after.state, after.clock))
    return {"channel": after.channel, **ends, "words": said, "patch": patch(before.settings, after.settings)}


@app.command("verify")
def verify_(
    anchor: Annotated[Path | None, typer.Option(help="an anchor that was kept elsewhere")] = None,
    public_key: Annotated[Path | None, typer.Option(help="the public key (PEM) that it must be signed with")] = None,
    partition: Annotated[list[int] | None, typer.Option(help="only these partitions; may be repeated")] = None,
    database: Annotated[
        bool, typer.Option(help="also hold the read model of SWITCHBOARD_DATABASE_URL against it")
    ] = False,
    copy: Copy = None,
) -> None:
    """Checks every chain, count and fold, and names the first bad record; exit code 1 where there is one."""
    report = answered(_verify(copy, anchor, public_key, partition or None, database=database))
    _say(report)
    if not report.sound:
        raise typer.Exit(1)


async def _verify(
    copy: Path | None,
    anchor: Path | None,
    public_key: Path | None,
    partitions: list[int] | None,
    *,
    database: bool = False,
) -> Report:
    kept = None if anchor is None else anchors.read_anchor(anchor, public_key)
    shown = await _read_model() if database else None
    async with opened(copy) as log:
        with progress_bar("verifying", await size_of(log, topics.EVENTS.name)) as moved:
            report = await verify(log, kept, moved, partitions=partitions, shown=shown)
    if kept is not None:
        signer = "the key given" if public_key else f"key {kept.key_fingerprint}, which the anchor names itself"
        typer.echo(f"Anchor of {kept.made_at}, signed by {signer}: {report.anchored} partitions held against it")
    return report


async def _read_model() -> Any:
    from services.audit.read_model import read_model
    from services.infrastructure.postgres import pool_of
    from services.infrastructure.settings import Settings

    pool = await pool_of(Settings.from_environment(), size=1)
    try:
        return await read_model(pool, now_ms())
    finally:
        await pool.close()


def _say(report: Report) -> None:
    typer.echo(f"{report.events} events of {report.channels} channels, read to {', '.join(map(str, report.read_to))}")
    typer.echo(f"{report.compared_state} channels held against channel-state")
    if report.compared_settings:
        typer.echo(f"{report.compared_settings} versions held against the read model")
    for finding in report.findings:
        typer.echo(f"BAD {finding}")
    typer.echo("The log is sound." if report.sound else f"The log is NOT sound: {len(report.findings)} findings.")


@app.command("anchor")
def anchor_(
    key: Annotated[Path, typer.Option(help="the Ed25519 private key to sign with, in PEM")],
    out: Annotated[Path | None, typer.Option(help="where to write it; default: standard output")] = None,
    make_key: Annotated[bool, typer.Option(help="make the key first, and its public half beside it")] = False,
    copy: Copy = None,
) -> None:
    """Checks the log, and writes what it is at this moment, condensed and signed: to be kept elsewhere."""
    if make_key:
        beside = answered(_made(key))
        typer.echo(f"Made {key} and {beside}; keep the second with those who check.", err=True)
    signer = answered(_key(key))
    report = answered(_verify(copy, None, None, None))
    if not report.sound:
        _say(report)
        raise typer.Exit(1)
    made = anchors.sign(topics.EVENTS.name, rfc3339(now_ms()), report.anchors, signer)
    text = made.model_dump_json(indent=1)
    if out is None:
        typer.echo(text)
    else:
        out.write_text(text + "\n")
        typer.echo(f"{out} anchors {report.events} events of {len(report.anchors)} partitions", err=True)


async def _made(path: Path) -> Path:
    return anchors.make_key(path)


async def _key(path: Path) -> Any:
    return anchors.read_key(path)


@app.command("replay")
def replay_(
    until: Annotated[str | None, typer.Option(help="a time; up to and with it. Default: the log's end")] = None,
    out: Annotated[Path | None, typer.Option(help="write the events there as JSON Lines; - is standard output")] = None,
    write_copy: Annotated[
        Path | None, typer.Option(help="write a copy of the log there, for `--from`: events, outcomes, channel-state")
    ] = None,
    copy: Copy = None,
) -> None:
    """Folds the log to a cut and compares the result with channel-state. Calls nobody, changes nothing."""
    cut = _instant("--until", until)
    if write_copy is not None:
        typer.echo(f"{answered(_copy(write_copy, copy))} records copied to {write_copy}", err=True)
        return
    done = answered(_replay(cut, out, copy))
    if out is None or str(out) != "-":
        _print(done.answer())
    if done.differences:
        raise typer.Exit(1)


async def _copy(to: Path, copy: Path | None) -> int:
    names = (topics.CHANNEL_STATE.name, topics.EVENTS.name, topics.OUTCOMES.name)
    async with opened(copy) as log:
        with to.open("w") as file, progress_bar("copying", await size_of(log, *names)) as moved:
            return await logs.copy(log, names, file, moved)


async def _replay(cut: int | None, out: Path | None, copy: Path | None) -> Replayed:
    async with opened(copy) as log:
        with progress_bar("replaying", await size_of(log, topics.EVENTS.name)) as moved:
            if out is None:
                return await replay(log, cut, moved)
            if str(out) == "-":
                return await replay(log, cut, moved, lambda record: typer.echo(record.value or b""))
            with out.open("wb") as file:
                return await replay(log, cut, moved, lambda record: file.write((record.value or b"") + b"\n"))


app.command("undo")(undo_)

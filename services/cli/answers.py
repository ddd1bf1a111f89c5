"""What ``switchboard audit`` answers: the reading behind each command, and how its answer is shown."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import typer

from contracts import topics
from contracts.message import rfc3339
from services.audit import anchor as anchors
from services.audit import copied_log
from services.audit import log as logs
from services.audit.as_of import Then, channel_at, channels_at, moment
from services.audit.difference import difference
from services.audit.log import AuditError
from services.audit.parallel import jobs_for, verify_side_by_side
from services.audit.replay import Replayed, replay
from services.audit.trail import Asked, Entry, spans_asked, trail
from services.audit.verify import Report, verify
from services.cli.audit_table import print_table
from services.cli.reading import answered, broker_address, now_ms, opened, progress_bar, require_name, size_of

_ROWS_A_TABLE = 200


def run(work: Coroutine[Any, Any, int]) -> None:
    """Runs it, and ends with its exit code."""
    code = answered(work)
    if code:
        raise typer.Exit(code)


def _print(answer: Any) -> None:
    typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))


def _one_of(channel: str | None, account: str | None) -> None:
    _names(channel, account)
    if (channel is None) == (account is None):
        raise AuditError("Name either --channel or --account.")


def _names(channel: str | None, account: str | None) -> None:
    require_name("--channel", channel)
    require_name("--account", account)


def instant(option: str, text: str | None) -> int | None:
    """Unix milliseconds; None for none. Raises `AuditError`."""
    if text is None:
        return None
    wanted = moment(text)
    if wanted.version is not None:
        raise AuditError(f"{option} is {text!r}; it must be a time, like 2026-11-22T08:00:00Z.")
    return now_ms() if wanted.time is None else wanted.time


async def log(
    channel: str | None,
    account: str | None,
    actor: str | None,
    kind: str | None,
    since: str | None,
    until: str | None,
    copy: Path | None,
    *,
    as_table: bool,
) -> int:
    _names(channel, account)
    asked = Asked(channel, account, actor, kind, instant("--since", since), instant("--until", until))
    rows: list[Entry] = []
    found = 0
    async with opened(copy) as source:
        spans = await spans_asked(source, asked)
        with progress_bar("reading", sum(span.end - span.first for span in spans.values())) as moved:
            async with aclosing(trail(source, asked, spans, moved)) as entries:
                async for entry in entries:
                    found += 1
                    if not as_table:
                        typer.echo(json.dumps(entry.answer(), ensure_ascii=False))
                        continue
                    rows.append(entry)
                    if len(rows) == _ROWS_A_TABLE:
                        print_table(rows)
                        rows.clear()
    if rows:
        print_table(rows)
    typer.echo(f"{found} entries, read to {', '.join(map(str, logs.ends_of(spans)))}", err=True)
    return 0


async def at(when: str, channel: str | None, account: str | None, copy: Path | None) -> int:
    _one_of(channel, account)
    found = await read_moments([when], channel, account, copy)
    for thens in found:
        if channel is not None:
            _print(thens[0].answer())
        else:
            typer.echo(json.dumps(thens[0].answer(), ensure_ascii=False))
    _say_if_none(found, account)
    return 0


def _say_if_none(found: list[Any], account: str | None) -> None:
    if account is not None and not found:
        typer.echo(f"The log holds no channel of account {account!r}.", err=True)


async def diff(
    one: str, other: str, channel: str | None, account: str | None, copy: Path | None, *, as_json: bool
) -> int:
    _one_of(channel, account)
    found = [difference(thens[0], thens[1]) for thens in await read_moments([one, other], channel, account, copy)]
    _say_if_none(found, account)
    if account is not None:
        found = [answer for answer in found if answer["words"] or answer["patch"]]
    if as_json:
        _print(found[0] if channel is not None else found)
    else:
        _say_differences(one, other, found)
    return 0


async def read_moments(
    texts: list[str], channel: str | None, account: str | None, copy: Path | None
) -> list[list[Then]]:
    moments = [moment(text) for text in texts]
    async with opened(copy) as source:
        with progress_bar("reading", await size_of(source, topics.EVENTS.name, channel=channel)) as moved:
            if channel is not None:
                return [await channel_at(source, channel, moments, now_ms(), moved)]
            return await channels_at(source, moments, now_ms(), account=account, progress=moved)


def _say_differences(one: str, other: str, answers: list[dict[str, Any]]) -> None:
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


async def read_and_verify(
    copy: Path | None,
    anchor: Path | None,
    public_key: Path | None,
    partitions: list[int] | None,
    *,
    database: bool = False,
    jobs: int | None = None,
) -> Report:
    if public_key is not None and anchor is None:
        raise AuditError("--public-key checks an anchor: name that with --anchor.")
    kept = None if anchor is None else anchors.read_anchor(anchor, public_key)
    async with _read_models(wanted=database) as shown, opened(copy) as source:
        spans = await source.spans(topics.EVENTS.name)
        for partition in () if kept is None else kept.partitions:  # one that is gone is looked for all the same
            spans.setdefault(logs.Source(topics.EVENTS.name, partition), logs.Span(0, 0))
        chosen = {home: span for home, span in spans.items() if partitions is None or home.partition in partitions}
        with progress_bar("verifying", sum(span.end - span.first for span in chosen.values())) as moved:
            several = jobs_for(chosen) if jobs is None else jobs
            if copy is None and shown is None and several > 1 and len(chosen) > 1:
                report = await verify_side_by_side(broker_address(), chosen, kept, several, moved)
            else:
                report = await verify(source, kept, moved, partitions=partitions, shown=shown)
    if kept is not None:
        signer = "the key given" if public_key else f"key {kept.key_fingerprint}, which the anchor names itself"
        typer.echo(f"Anchor of {kept.made_at}, signed by {signer}: {report.anchored} partitions held against it")
    return report


@asynccontextmanager
async def _read_models(*, wanted: bool) -> AsyncIterator[Any]:
    if not wanted:
        yield None
        return
    from services.audit.read_models import read_models
    from services.infrastructure.postgres import pool_of
    from services.infrastructure.settings import Settings

    pool = await pool_of(Settings.from_environment(), size=1)
    try:
        async with read_models(pool, now_ms()) as shown:
            yield shown
    finally:
        await pool.close()


async def verify_log(
    copy: Path | None,
    anchor: Path | None,
    public_key: Path | None,
    partitions: list[int] | None,
    *,
    database: bool,
    jobs: int | None,
) -> int:
    report = await read_and_verify(copy, anchor, public_key, partitions, database=database, jobs=jobs)
    _say_report(report)
    return 0 if report.sound else 1


def _say_report(report: Report) -> None:
    typer.echo(f"{report.events} events of {report.channels} channels, read to {', '.join(map(str, report.read_to))}")
    typer.echo(f"{report.compared_state} channels held against channel-state")
    if report.compared_settings:
        typer.echo(
            f"{report.compared_settings} versions held against the read model, {report.compared_catalogue} channels "
            f"against the intent catalogue, {report.compared_history} events against the history"
        )
    for finding in report.findings:
        typer.echo(f"BAD {finding}")
    typer.echo("The log is sound." if report.sound else f"The log is NOT sound: {len(report.findings)} findings.")


async def write_anchor(key: Path, out: Path | None, copy: Path | None, *, make_key: bool) -> int:
    """An anchor is written only where the log is sound."""
    if make_key:
        beside = anchors.make_key(key)
        typer.echo(f"Made {key} and {beside}; keep the second with those who check.", err=True)
    signer = anchors.read_key(key)
    report = await read_and_verify(copy, None, None, None)
    if not report.sound:
        _say_report(report)
        return 1
    made = anchors.sign(topics.EVENTS.name, rfc3339(now_ms()), report.anchors, signer)
    text = made.model_dump_json(indent=1)
    if out is None:
        typer.echo(text)
    else:
        out.write_text(text + "\n")
        typer.echo(f"{out} anchors {report.events} events of {len(report.anchors)} partitions", err=True)
    return 0


async def replay_log(until: str | None, out: Path | None, write_copy: Path | None, copy: Path | None) -> int:
    cut = instant("--until", until)
    if write_copy is not None:
        typer.echo(f"{await write_a_copy(write_copy, copy)} records copied to {write_copy}", err=True)
        return 0
    done = await replay_to(cut, out, copy)
    typer.echo(json.dumps(done.answer(), indent=2), err=str(out) == "-")
    return 1 if done.differences else 0


async def write_a_copy(to: Path, copy: Path | None) -> int:
    names = (topics.CHANNEL_STATE.name, topics.EVENTS.name, topics.OUTCOMES.name)
    async with opened(copy) as source:
        with to.open("w") as file, progress_bar("copying", await size_of(source, *names)) as moved:
            return await copied_log.copy(source, names, file, moved)


async def replay_to(cut: int | None, out: Path | None, copy: Path | None) -> Replayed:
    async with opened(copy) as source:
        with progress_bar("replaying", await size_of(source, topics.EVENTS.name)) as moved:
            if out is None:
                return await replay(source, cut, moved)
            if str(out) == "-":
                return await replay(source, cut, moved, lambda record: typer.echo(record.value or b""))
            with out.open("wb") as file:
                return await replay(source, cut, moved, lambda record: file.write((record.value or b"") + b"\n"))

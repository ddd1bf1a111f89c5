"""The commands of ``switchboard audit``: each reads the log and prints its answer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import typer
from aiokafka import TopicPartition

from contracts import topics
from contracts.message import rfc3339
from services.audit.log import copied_log
from services.audit.log.errors import AuditError
from services.audit.log.source import OffsetRange, end_positions, homes_of
from services.audit.timeline.audit_log import AuditEntry, AuditFilter, ranges_to_read, read_audit_log
from services.audit.timeline.diff import diff_report
from services.audit.timeline.settings_at import SettingsAt, channel_at, channels_at, parse_moment
from services.audit.verification import anchor as anchors
from services.audit.verification.parallel import jobs_for, verify_in_parallel
from services.audit.verification.replay import Replayed, replay
from services.audit.verification.verify import Report, verify
from services.cli.audit_table import print_table
from services.cli.connections import bootstrap_servers
from services.cli.errors import require_id
from services.cli.log_access import now_ms, offsets_to_read, open_log, progress_bar, run_audit
from services.cli.output import Format, format_of, print_document, print_rows
from services.cli.times import parse_time
from services.cli.wording import count

_ROWS_PER_TABLE = 200


def run(work: Coroutine[Any, Any, int]) -> None:
    """Runs the command and exits with its code."""
    code = run_audit(work)
    if code:
        raise typer.Exit(code)


def _require_channel_or_account(channel: str | None, account: str | None) -> None:
    _require_ids(channel, account)
    if (channel is None) == (account is None):
        raise AuditError("Name either --channel or --account.")


def _require_ids(channel: str | None, account: str | None) -> None:
    require_id("--channel", channel)
    require_id("--account", account)


async def log(
    channel: str | None,
    account: str | None,
    actor: str | None,
    kind: str | None,
    since: str | None,
    until: str | None,
    copy: Path | None,
    limit: int | None,
    output: Format | None,
) -> int:
    _require_ids(channel, account)
    audit_filter = AuditFilter(
        channel, account, actor, kind, parse_time("--since", since), parse_time("--until", until, excluded=True)
    )
    rows: list[AuditEntry] = []
    found = 0
    async with open_log(copy) as source:
        ranges = await ranges_to_read(source, audit_filter)
        with progress_bar("reading", sum(offsets.end - offsets.first for offsets in ranges.values())) as moved:
            async with aclosing(read_audit_log(source, audit_filter, ranges, moved)) as entries:
                async for entry in entries:
                    if found == limit:
                        break
                    found += 1
                    if format_of(output) != Format.TABLE:
                        print_rows([entry.as_json()], output, ())
                        continue
                    rows.append(entry)
                    if len(rows) == _ROWS_PER_TABLE:
                        print_table(rows)
                        rows.clear()
    if rows:
        print_table(rows)
    limited = f"; --limit {limit} was reached" if found == limit else ""
    ends = ", ".join(map(str, end_positions(ranges)))
    typer.echo(f"{count(found, 'entry', 'entries')}, read to {ends}{limited}", err=True)
    return 0


async def at(when: str, channel: str | None, account: str | None, copy: Path | None, output: Format | None) -> int:
    _require_channel_or_account(channel, account)
    found = await read_settings_at([when], channel, account, copy)
    shown = [answers[0].as_json() for answers in found]
    if channel is None and format_of(output) != Format.TABLE:
        print_rows(shown, output, ())
        shown = []
    for one in shown:
        print_document(one, output)
    _report_no_channel(found, account)
    return 0


def _report_no_channel(found: list[Any], account: str | None) -> None:
    if account is not None and not found:
        typer.echo(f"The log has no channel of account {account!r}.", err=True)


async def diff(
    one: str, other: str, channel: str | None, account: str | None, copy: Path | None, output: Format | None
) -> int:
    _require_channel_or_account(channel, account)
    found = [
        diff_report(answers[0], answers[1]) for answers in await read_settings_at([one, other], channel, account, copy)
    ]
    _report_no_channel(found, account)
    if account is not None:
        found = [answer for answer in found if answer["words"] or answer["patch"]]
    if output in (None, Format.TABLE):  # sentences, on a terminal or not
        _print_differences(one, other, found)
    elif channel is not None:
        print_document(found[0], output)
    else:
        print_rows(found, output, ())
    return 0


async def read_settings_at(
    texts: list[str], channel: str | None, account: str | None, copy: Path | None
) -> list[list[SettingsAt]]:
    moments = [parse_moment(text) for text in texts]
    async with open_log(copy) as source:
        with progress_bar("reading", await offsets_to_read(source, topics.EVENTS.name, channel=channel)) as moved:
            if channel is not None:
                return [await channel_at(source, channel, moments, now_ms(), moved)]
            return await channels_at(source, moments, now_ms(), account=account, progress=moved)


def _print_differences(one: str, other: str, answers: list[dict[str, Any]]) -> None:
    for answer in answers:
        typer.echo(f"{answer['channel']}, from {one} to {other}:")
        for sentence in answer["words"] or ["Nothing differs."]:
            typer.echo(f"  {sentence}")
        for end in ("from", "to"):
            rests_on = answer[end]["rests_on"]
            where = "no event" if rests_on is None else rests_on["position"]
            typer.echo(f"  {answer[end]['at']} is based on {where}")
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
        raise AuditError("--public-key checks an anchor; name it with --anchor.")
    stored = None if anchor is None else anchors.read_anchor(anchor, public_key)
    async with _read_models(enabled=database) as read_models, open_log(copy) as source:
        ranges = await source.offset_ranges(topics.EVENTS.name)
        for partition in () if stored is None else stored.partitions:  # a missing partition is checked too
            ranges.setdefault(TopicPartition(topics.EVENTS.name, partition), OffsetRange(0, 0))
        chosen = {
            topic_partition: offsets
            for topic_partition, offsets in ranges.items()
            if partitions is None or topic_partition.partition in partitions
        }
        with progress_bar("verifying", sum(offsets.end - offsets.first for offsets in chosen.values())) as moved:
            several = jobs_for(chosen) if jobs is None else jobs
            if copy is None and read_models is None and several > 1 and len(chosen) > 1:
                families = homes_of(source).families(chosen)
                report = await verify_in_parallel(bootstrap_servers(), chosen, families, stored, several, moved)
            else:
                report = await verify(source, stored, moved, partitions=partitions, read_models=read_models)
    if stored is not None:
        signer = "the key given" if public_key else f"key {stored.key_fingerprint}, which the anchor names itself"
        typer.echo(
            f"Anchor of {stored.made_at}, signed by {signer}: {count(report.anchored, 'partition')} compared with it"
        )
    return report


@asynccontextmanager
async def _read_models(*, enabled: bool) -> AsyncIterator[Any]:
    if not enabled:
        yield None
        return
    from services.audit.verification.read_model_snapshot import read_model_snapshot
    from services.infrastructure.config import Settings
    from services.infrastructure.postgres import pool_of

    pool = await pool_of(Settings.from_environment(), size=1, waits=False)
    try:
        async with read_model_snapshot(pool, now_ms()) as read_models:
            yield read_models
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
    _print_report(report)
    return 0 if report.sound else 1


def _print_report(report: Report) -> None:
    read_to = ", ".join(map(str, report.read_to))
    typer.echo(f"{count(report.events, 'event')} of {count(report.channels, 'channel')}, read to {read_to}")
    typer.echo(f"{count(report.compared_state, 'channel')} compared with channel-state")
    if report.compared_settings:
        typer.echo(
            f"{count(report.compared_settings, 'version')} compared with the read model, "
            f"{count(report.compared_catalogue, 'channel')} with the intent catalogue, "
            f"{count(report.compared_history, 'event')} with the history"
        )
    for finding in report.findings:
        typer.echo(f"BAD {finding}")
    typer.echo(
        "The log is sound." if report.sound else f"The log is NOT sound: {count(len(report.findings), 'finding')}."
    )


async def write_anchor(key: Path, out: Path | None, copy: Path | None, *, make_key: bool) -> int:
    """Writes an anchor, if the log is sound."""
    if make_key:
        public_key = anchors.make_key(key)
        typer.echo(f"Created {key} and {public_key}; give the second to those who verify.", err=True)
    signer = anchors.read_key(key)
    report = await read_and_verify(copy, None, None, None)
    if not report.sound:
        _print_report(report)
        return 1
    made = anchors.sign(topics.EVENTS.name, rfc3339(now_ms()), report.anchors, signer)
    text = made.model_dump_json(indent=1)
    if out is None:
        typer.echo(text)
    else:
        out.write_text(text + "\n", "utf-8")
        typer.echo(
            f"{out} anchors {count(report.events, 'event')} of {count(len(report.anchors), 'partition')}", err=True
        )
    return 0


async def replay_log(until: str | None, out: Path | None, write_copy: Path | None, copy: Path | None) -> int:
    cut = parse_time("--until", until)
    if write_copy is not None:
        typer.echo(f"{count(await copy_log(write_copy, copy), 'record')} copied to {write_copy}", err=True)
        return 0
    done = await fold_log(cut, out, copy)
    typer.echo(json.dumps(done.as_json(), indent=2), err=str(out) == "-")
    return 1 if done.differences else 0


async def copy_log(to: Path, copy: Path | None) -> int:
    names = (topics.CHANNEL_STATE.name, topics.EVENTS.name, topics.OUTCOMES.name)
    async with open_log(copy) as source:
        with (
            to.open("w", encoding="utf-8") as file,
            progress_bar("copying", await offsets_to_read(source, *names)) as moved,
        ):
            return await copied_log.copy(source, await source.offset_ranges(*names), file.write, moved)


async def fold_log(cut: int | None, out: Path | None, copy: Path | None) -> Replayed:
    async with open_log(copy) as source:
        with progress_bar("replaying", await offsets_to_read(source, topics.EVENTS.name)) as moved:
            if out is None:
                return await replay(source, cut, moved)
            if str(out) == "-":
                return await replay(source, cut, moved, lambda record: typer.echo(record.value or b""))
            with out.open("wb") as file:
                return await replay(source, cut, moved, lambda record: file.write((record.value or b"") + b"\n"))

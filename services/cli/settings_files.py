"""What ``switchboard settings`` does: writes a channel's settings as a file, and brings channels to such a file."""

from __future__ import annotations

from pathlib import Path

import typer

from contracts import topics
from services.audit.applying import Application, applications
from services.audit.as_of import channel_at, moment
from services.audit.leaves import leaves_of
from services.audit.log import AuditError
from services.audit.plan import Leave
from services.audit.settings_file import exported, parse, with_version
from services.cli.reading import now_ms, opened, progress_bar, require_name, size_of
from services.cli.sending import confirmed, data_of, send_all


async def export_settings(channel: str, out: Path | None, when: str, copy: Path | None) -> int:
    require_name("--channel", channel)
    text = await _export(channel, when, copy)
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text, "utf-8")
    return 0


async def _export(channel: str, when: str, copy: Path | None) -> str:
    wanted = moment(when)
    async with opened(copy) as log:
        with progress_bar("reading", await size_of(log, topics.EVENTS.name, channel=channel)) as moved:
            then = (await channel_at(log, channel, [wanted], now_ms(), moved))[0]
    if then.settings is None:
        raise AuditError(" ".join(then.notes))
    return exported(then, leaves_of(then.state, then.clock))


async def apply_settings(
    file: Path,
    channel: str | None,
    provider: str | None,
    *,
    dry_run: bool,
    yes: bool,
    overwrite: bool,
    leave: Leave,
    actor: str | None,
) -> int:
    require_name("--channel", channel)
    require_name("--provider", provider)
    if channel is not None and provider is not None:
        raise AuditError("Name either --channel or --provider.")
    try:
        text = file.read_text("utf-8")
    except OSError as error:
        raise AuditError(f"{file} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise AuditError(f"{file} is no text in UTF-8.") from None
    found = await _applications(text, leave, channel, provider, overwrite=overwrite)
    for one in found:
        _show(one)
    differing = [one for one in found if one.commands]
    if provider is not None:
        who = f": {', '.join(one.channel for one in differing)}" if differing else ""
        typer.echo(f"{len(differing)} of {len(found)} channels differ{who}")
    ready = [one for one in differing if one.obstacle is None]
    stopped = len(ready) < len(differing)
    if dry_run or not ready:
        return 1 if stopped else 0
    if not confirmed(f"Send {sum(len(one.commands) for one in ready)} commands?", yes=yes):
        typer.echo("Nothing was sent.")
        return 1
    done = await send_all([one.planned() for one in ready], actor=actor, why="settings-apply")
    for carried in done:
        if carried.refused is None and carried.planned.channel == parse(text).channel:
            updated = with_version(text, carried.version)
            if updated != text:
                file.write_text(updated, "utf-8")
                typer.echo(f"{file} now says version {carried.version}")
    return 1 if stopped or any(carried.refused for carried in done) else 0


async def _applications(
    text: str, leave: Leave, channel: str | None, provider: str | None, *, overwrite: bool
) -> list[Application]:
    file = parse(text)
    target = None if provider is not None else channel or file.channel
    async with opened(None) as log:
        with progress_bar("reading", await size_of(log, topics.EVENTS.name, channel=target)) as moved:
            return await applications(
                log,
                file,
                now_ms(),
                leave,
                channel=channel,
                provider=provider,
                overwrite=overwrite,
                progress=moved,
            )


def _show(one: Application) -> None:
    typer.echo(f"{one.channel}, of account {one.account}, at version {one.seen} ({one.then.position}):")
    for sentence in [*one.words, *one.signatures] or ["Nothing differs."]:
        typer.echo(f"  {sentence}")
    for command in one.commands:
        typer.echo(f"  would send {type(command).__name__} {data_of(command)}")
    if one.obstacle is not None:
        typer.echo(f"  NOT possible: {one.obstacle}")

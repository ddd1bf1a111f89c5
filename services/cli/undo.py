"""``switchboard audit undo``: takes a command of the past back, by new ones."""

from __future__ import annotations

import typer

from contracts import topics
from services.audit.carrying_out import Planned
from services.audit.difference import words
from services.audit.plan import Leave
from services.audit.undo import Undoing, command_at, undo
from services.cli.reading import now_ms, opened, progress_bar, require_name, size_of
from services.cli.sending import confirmed, data_of, send_all


async def undo_version(
    version: int,
    channel: str,
    *,
    since: bool,
    dry_run: bool,
    yes: bool,
    force: bool,
    acknowledged: bool,
    actor: str | None,
) -> int:
    require_name("--channel", channel)
    undoing = await _undo(channel, version, Leave(force, acknowledged), since=since)
    _show(undoing)
    known = undoing.undone.current.channel
    if not undoing.commands or known is None:
        typer.echo("There is nothing to send.")
        return 1 if undoing.stays else 0
    if undoing.refused is not None:
        command, rejection = undoing.refused
        typer.echo(f"{type(command).__name__} would be refused: {rejection.message} Nothing was sent.")
        return 1
    if dry_run:
        return 0
    if not confirmed(f"Send {len(undoing.commands)} commands?", yes=yes):
        typer.echo("Nothing was sent.")
        return 1
    planned = Planned(channel, known.account, known.version, undoing.commands)
    done = await send_all([planned], actor=actor, why=f"undo-{version}")
    return 1 if any(one.refused for one in done) else 0


async def _undo(channel: str, version: int, leave: Leave, *, since: bool) -> Undoing:
    async with opened(None) as log:
        with progress_bar("reading", await size_of(log, topics.EVENTS.name, channel=channel)) as moved:
            undone = await command_at(log, channel, version, moved)
    return undo(undone, leave, now_ms(), since=since)


def _show(undoing: Undoing) -> None:
    undone = undoing.undone
    typer.echo("Taken back:")
    for event in undone.events:
        envelope = event.envelope
        who = envelope.actor or "somebody"
        typer.echo(f"  version {envelope.sequence}, {envelope.type} by {who}, {envelope.time} ({event.position})")
    known = undone.current.channel
    typer.echo(f"The channel is at version {0 if known is None else known.version}. It would change so:")
    for sentence in words(undoing.current, undoing.wanted) or ["Nothing changes."]:
        typer.echo(f"  {sentence}")
    if undoing.commands:
        typer.echo("By these commands:")
    for command in undoing.commands:
        typer.echo(f"  {type(command).__name__} {data_of(command)}")
    if undoing.stays:
        typer.echo("What cannot come back:")
    for sentence in undoing.stays:
        typer.echo(f"  {sentence}")

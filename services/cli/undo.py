"""``switchboard audit undo``: undoes a past command by sending new ones."""

from __future__ import annotations

import typer

from contracts import topics
from services.audit.settings_files.plan import Permission
from services.audit.settings_files.plan_execution import CommandPlan
from services.audit.settings_files.undo import UndoPlan, command_at, undo
from services.audit.timeline.sentences import describe_changes
from services.cli.errors import require_id
from services.cli.log_access import now_ms, offsets_to_read, open_log, progress_bar
from services.cli.send_plan import command_json, confirm, send_plans
from services.cli.wording import count


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
    require_id("--channel", channel)
    undoing = await _undo(channel, version, Permission(force, acknowledged), since=since)
    _print_plan(undoing)
    registered = undoing.undone.current.channel
    if not undoing.commands or registered is None:
        typer.echo("There is nothing to send.")
        return 1 if undoing.stays else 0
    if undoing.refused is not None:
        command, rejection = undoing.refused
        typer.echo(f"{type(command).__name__} would be refused: {rejection.message} Nothing was sent.")
        return 1
    if dry_run:
        return 0
    if not confirm(f"Send {count(len(undoing.commands), 'command')}?", yes=yes):
        typer.echo("Nothing was sent.")
        return 1
    planned = CommandPlan(channel, registered.account, registered.version, undoing.commands)
    done = await send_plans([planned], actor=actor, why=f"undo-{version}")
    return 1 if any(result.refused for result in done) else 0


async def _undo(channel: str, version: int, permission: Permission, *, since: bool) -> UndoPlan:
    async with open_log(None) as log:
        with progress_bar("reading", await offsets_to_read(log, topics.EVENTS.name, channel=channel)) as moved:
            undone = await command_at(log, channel, version, moved)
    return undo(undone, permission, now_ms(), since=since)


def _print_plan(undoing: UndoPlan) -> None:
    undone = undoing.undone
    typer.echo("To undo:")
    for event in undone.events:
        envelope = event.envelope
        who = envelope.actor or "an unknown actor"
        typer.echo(f"  version {envelope.sequence}, {envelope.type} by {who}, {envelope.time} ({event.position})")
    registered = undone.current.channel
    typer.echo(f"The channel is at version {0 if registered is None else registered.version}. The undo:")
    for sentence in describe_changes(undoing.current, undoing.target, planned=True) or ["Would change nothing."]:
        typer.echo(f"  {sentence}")
    if undoing.commands:
        typer.echo("It would send:")
    for command in undoing.commands:
        typer.echo(f"  {type(command).__name__} {command_json(command)}")
    if undoing.stays:
        typer.echo("It cannot restore:")
    for sentence in undoing.stays:
        typer.echo(f"  {sentence}")

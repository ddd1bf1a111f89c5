"""``switchboard audit undo``: takes a command of the past back, by new ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from contracts import topics
from services.audit.carrying_out import Planned
from services.audit.difference import words
from services.audit.plan import Leave, rehearse
from services.audit.undo import Undoing, command_at, undo
from services.cli.reading import answered, now_ms, opened, progress_bar, require_name, size_of
from services.cli.sending import confirmed, data_of, send_all


def undo_(
    version: Annotated[int, typer.Argument(min=1, help="the version whose command is taken back")],
    channel: Annotated[str, typer.Option(help="the channel's id")],
    since: Annotated[bool, typer.Option("--since", help="and everything after it")] = False,
    dry_run: Annotated[bool, typer.Option(help="say what would happen, and change nothing")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    force: Annotated[bool, typer.Option(help="also where templates refer to what goes")] = False,
    acknowledge_international_rates: Annotated[
        bool, typer.Option(help="own numbers may incur international authentication rates")
    ] = False,
    actor: Annotated[str | None, typer.Option(help="who asks; default: the user of this machine")] = None,
) -> None:
    """Restores what was before a version, by new commands: shows them first, and what cannot come back."""
    require_name("--channel", channel)
    leave = Leave(force, acknowledge_international_rates)
    undoing = answered(_undo(channel, version, leave, since=since))
    _show(undoing)
    if not undoing.commands:
        typer.echo("There is nothing to send.")
        raise typer.Exit(1 if undoing.stays else 0)
    state = undoing.undone.current
    refused = rehearse(channel, state, undoing.commands, now_ms()).refused
    if refused is not None:
        typer.echo(f"{type(refused[0]).__name__} would be refused: {refused[1].message} Nothing was sent.")
        raise typer.Exit(1)
    if dry_run:
        return
    if not confirmed(f"Send {len(undoing.commands)} commands?", yes=yes):
        typer.echo("Nothing was sent.")
        raise typer.Exit(1)
    known = state.channel
    if known is None:
        raise typer.Exit(1)
    planned = Planned(channel, known.account, known.version, undoing.commands)
    done = answered(send_all([planned], actor=actor, why=f"undo-{version}"))
    if any(one.refused for one in done):
        raise typer.Exit(1)


async def _undo(channel: str, version: int, leave: Leave, *, since: bool, copy: Path | None = None) -> Undoing:
    async with opened(copy) as log:
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

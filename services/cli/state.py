"""``switchboard state``: the decider's state, which is a cache of the log."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.console import Console

from services.cli.connections import bootstrap_servers
from services.cli.errors import CliError
from services.cli.wording import count

app = typer.Typer(help="The decider's state: rebuilding it from the log.", no_args_is_help=True)

_DIFFERENCES_SHOWN = 50
"""This many differences of a partition are printed; the others are counted."""


@app.callback()
def _state() -> None:
    """Makes typer keep the name `rebuild`, although it is the only command."""


@app.command()
def rebuild(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the differences, and change nothing")] = False,
) -> None:
    """Rebuilds the decider's state from the log, prints the differences, and corrects them. Stop every decider first.

    Exit code 0: no difference, or corrected; 1: differences (--dry-run), or a secret is lost for good.
    """
    from services.decider.rebuild_state import RebuildRefused

    try:
        wrong = asyncio.run(_rebuild(write=not dry_run))
    except RebuildRefused as refusal:
        raise CliError(str(refusal)) from None
    if wrong:
        raise typer.Exit(1)


async def _rebuild(*, write: bool) -> bool:
    from services.decider.rebuild_state import RebuildReport, rebuild
    from services.infrastructure.kafka import security_options

    def say(found: RebuildReport) -> None:
        for difference in found.differences[:_DIFFERENCES_SHOWN]:
            typer.echo(f"partition {found.partition}: {difference.key} {difference.what}")
        if len(found.differences) > _DIFFERENCES_SHOWN:
            typer.echo(f"partition {found.partition}: and {len(found.differences) - _DIFFERENCES_SHOWN:,} more")
        for secret in found.lost_secrets:
            typer.echo(f"partition {found.partition}: the secret of {secret} is lost; refresh the signature")
        differences = f"{len(found.differences):,} {'corrected' if write else 'differ'}"
        read = f"{count(found.events, 'event')}, {count(found.records, 'record')}"
        typer.echo(f"partition {found.partition}: {read}, {differences}")

    wrong = False
    with Console(stderr=True).status("reading") as status:

        def progress(partition: int, events: int) -> None:
            status.update(f"partition {partition}: {count(events, 'event')}")

        broker = bootstrap_servers()
        async for found in rebuild(broker, security_options(), write=write, progress=progress):
            say(found)
            wrong = wrong or bool(found.lost_secrets) or (bool(found.differences) and not write)
    return wrong

"""``switchboard state``: the decider's state, which is a cache of the log."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(help="The decider's state.", no_args_is_help=True)

_NAMED = 50
"""So many differences of a partition are named; the others are counted."""


@app.callback()
def _state() -> None:
    """Keeps `rebuild` a command of its own name, although it is the only one."""


@app.command()
def rebuild(
    dry_run: Annotated[bool, typer.Option(help="say what differs, and change nothing")] = False,
) -> None:
    """Folds the decider's state anew from the log, says what differed, and corrects it. Every decider must be stopped.

    Exit code 0: all is right, or was corrected; 1: it differs (--dry-run), or a secret is lost, which no log can mend.
    """
    from services.cli.main import Unusable
    from services.decider.rebuild_state import RebuildRefused

    try:
        wrong = asyncio.run(_rebuild(write=not dry_run))
    except RebuildRefused as refusal:
        raise Unusable(str(refusal)) from None
    if wrong:
        raise typer.Exit(1)


async def _rebuild(*, write: bool) -> bool:
    from services.cli.main import _broker
    from services.decider.rebuild_state import Rebuilt, rebuild
    from services.infrastructure.kafka import security_options
    from services.infrastructure.settings import Settings

    def say(found: Rebuilt) -> None:
        for one in found.differences[:_NAMED]:
            typer.echo(f"partition {found.partition}: {one.key} {one.what}")
        if len(found.differences) > _NAMED:
            typer.echo(f"partition {found.partition}: and {len(found.differences) - _NAMED:,} more")
        for secret in found.lost_secrets:
            typer.echo(f"partition {found.partition}: the secret of {secret} is lost; refresh the signature")
        done = "corrected" if write else "differ"
        typer.echo(
            f"partition {found.partition}: {found.events:,} events, {found.records:,} records, "
            f"{len(found.differences):,} {done}"
        )

    wrong = False
    with Console(stderr=True).status("reading") as status:

        def progress(partition: int, events: int) -> None:
            status.update(f"partition {partition}: {events:,} events")

        broker = _broker(Settings.from_environment())
        async for found in rebuild(broker, security_options(), write=write, progress=progress):
            say(found)
            wrong = wrong or bool(found.lost_secrets) or (bool(found.differences) and not write)
    return wrong

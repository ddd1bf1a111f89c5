"""``switchboard projections``: how far the read models are, building one anew beside the live one, and going back."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, replace
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from projections import settings as settings_projection
from services.infrastructure.consuming import MIGRATIONS as CHECKPOINT_MIGRATIONS
from services.infrastructure.postgres import Pool, migrate, pool_of
from services.infrastructure.settings import Settings

app = typer.Typer(help="The read models.", no_args_is_help=True)

_Model = Annotated[str, typer.Argument(help="settings")]


@app.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="a JSON line for each partition")] = False) -> None:
    """How far each read model is behind the log, per partition, in events and seconds."""
    from services.projector.lag import lags

    found = _run(lambda settings, pool: lags(settings, pool))
    if as_json:
        for one in found:
            typer.echo(json.dumps(asdict(one)))
        return
    table = Table("Read model", "State", "Partition", "Next offset", "Log end", "Events behind", "Seconds behind")
    for one in found:
        numbers = (one.partition, one.next_offset, one.end, f"{one.events:,}", f"{one.seconds:.1f}")
        table.add_row(one.model, one.state, *map(str, numbers))
    Console(width=None if sys.stdout.isatty() else 120).print(table)


@app.command()
def rebuild(
    model: _Model,
    restart: Annotated[bool, typer.Option(help="forget what an ended rebuild has built, and begin anew")] = False,
    accept_differences: Annotated[bool, typer.Option(help="swap although the live one differs from the log")] = False,
) -> None:
    """Builds the next version beside the live one, checks it against that, and swaps; readers notice nothing.

    Killed half-way, it goes on where it was when it is called again. The old version is kept: `rollback` goes back.
    """
    from services.projector import swap

    _known(model)
    with _said() as say:
        _run(
            lambda settings, pool: swap.rebuild(
                settings, pool, restart=restart, accept_differences=accept_differences, say=say, bar=_bar
            )
        )


@app.command()
def rollback(model: _Model) -> None:
    """Brings the version that was live before up to date, and makes it live again; the other one is kept."""
    from services.projector import swap

    _known(model)
    with _said() as say:
        _run(lambda settings, pool: swap.roll_back(settings, pool, say=say, bar=_bar))


def _known(model: str) -> None:
    from services.cli.main import Unusable

    if model != settings_projection.MODEL:
        raise Unusable(f"There is no read model {model!r} that is built anew; choose {settings_projection.MODEL}.")


@contextmanager
def _said() -> Iterator[Callable[[str], None]]:
    """What is said meanwhile comes when the progress bar has gone."""
    lines: list[str] = []
    try:
        yield lines.append
    finally:
        for line in lines:
            typer.echo(line)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.completed / max(task.elapsed or 0, 0.1):,.0f}/s")


@contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """On standard error, and only where a person looks at it."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda moved: bar.update(task, advance=moved)


def _run(work: Callable[[Settings, Pool], Coroutine[Any, Any, Any]]) -> Any:
    from services.cli.main import Unusable, _broker
    from services.projector.rebuild import RebuildRefused

    gc.set_threshold(500_000, 20, 100)  # as the projector does
    settings = Settings.from_environment()
    settings = replace(settings, kafka_bootstrap_servers=_broker(settings))

    async def with_pool() -> Any:
        async with _tables(settings) as pool:
            return await work(settings, pool)

    try:
        return asyncio.run(with_pool())
    except RebuildRefused as error:
        raise Unusable(str(error)) from None


@asynccontextmanager
async def _tables(settings: Settings) -> AsyncIterator[Pool]:
    pool = await pool_of(settings, size=6)
    try:
        await migrate(pool, "checkpoints", CHECKPOINT_MIGRATIONS)
        await migrate(pool, "projections", settings_projection.MIGRATIONS)
        yield pool
    finally:
        await pool.close()

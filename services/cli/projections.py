"""``switchboard projections``: the lag of the read models, rebuilds in parallel with the live version, rollbacks."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

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
from rich.text import Text

from services.cli.connections import with_broker
from services.cli.errors import CliError
from services.cli.output import Output, print_rows
from services.infrastructure.config import Settings

if TYPE_CHECKING:
    from services.infrastructure.postgres import Pool
    from services.projector.models import ReadModel

app = typer.Typer(help="The read models: how far behind they are, rebuilds, and rollbacks.", no_args_is_help=True)

_Model = Annotated[str, typer.Argument(metavar="MODEL", help="settings, history or catalogue")]


@app.command()
def status(output: Output = None) -> None:
    """Prints the lag of each read model behind the log, per partition, in events and seconds."""
    from services.projector.lag import lags

    found = _run(lambda settings, pool: lags(settings, pool))
    columns = ("model", "state", "partition", "next_offset", "end", "events", "seconds")
    print_rows((asdict(one) for one in found), output, columns)


@app.command()
def rebuild(
    model: _Model,
    restart: Annotated[
        bool, typer.Option("--restart", help="discard what an interrupted rebuild has built, and start over")
    ] = False,
    accept_differences: Annotated[
        bool, typer.Option("--accept-differences", help="swap even if the live version differs from the log")
    ] = False,
) -> None:
    """Builds the next version in parallel with the live one, compares them, and swaps them for readers.

    If it is interrupted, the next call resumes it. The old version is kept for `rollback`.
    """
    from services.projector import swap

    read_model = _read_model(model)
    with _messages() as say:
        _run(
            lambda settings, pool: swap.rebuild(
                settings, pool, read_model, restart=restart, accept_differences=accept_differences, say=say, bar=_bar
            )
        )


@app.command()
def rollback(model: _Model) -> None:
    """Brings the previous version up to date and makes it live again. The current version is kept."""
    from services.projector import swap

    read_model = _read_model(model)
    with _messages() as say:
        _run(lambda settings, pool: swap.roll_back(settings, pool, read_model, say=say, bar=_bar))


def _read_model(name: str) -> ReadModel:
    from services.projector.models import READ_MODELS

    if (model := READ_MODELS.get(name)) is None:
        raise CliError(f"There is no read model {name!r}; choose one of {', '.join(READ_MODELS)}.")
    return model


@contextmanager
def _messages() -> Iterator[Callable[[str], None]]:
    """Prints the messages after the progress bar has gone."""
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
    """A progress bar on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda moved: bar.update(task, advance=moved)


def _run(work: Callable[[Settings, Pool], Coroutine[Any, Any, Any]]) -> Any:
    from services.projector.rebuild import RebuildRefused

    gc.set_threshold(500_000, 20, 100)  # as the projector does
    settings, _ = with_broker(Settings.from_environment())

    async def with_pool() -> Any:
        async with _tables(settings) as pool:
            return await work(settings, pool)

    try:
        return asyncio.run(with_pool())
    except RebuildRefused as error:
        raise CliError(str(error)) from None


@asynccontextmanager
async def _tables(settings: Settings) -> AsyncIterator[Pool]:
    from projections import MIGRATIONS as PROJECTION_MIGRATIONS
    from services.infrastructure.checkpoints import MIGRATIONS as CHECKPOINT_MIGRATIONS
    from services.infrastructure.postgres import migrate, pool_of

    pool = await pool_of(settings, size=6, waits=False)
    try:
        await migrate(pool, "checkpoints", CHECKPOINT_MIGRATIONS)
        await migrate(pool, "projections", PROJECTION_MIGRATIONS)
        yield pool
    finally:
        await pool.close()

"""``switchboard rates``: shows, checks and applies the rate book."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.connections import Result, bootstrap_servers, run_with_pool
from services.cli.errors import CliError
from services.cli.local_user import local_user
from services.cli.rate_files import read_rates

if TYPE_CHECKING:
    from contracts.rates import ApplyRateBook
    from services.infrastructure.postgres import Pool

app = typer.Typer(help="Rates: what a message costs, by country and fee class.", no_args_is_help=True)

_File = Annotated[
    Path, typer.Argument(metavar="FILE", help="a CSV file: country,fee_class,currency,amount,from; - is standard input")
]


@app.command()
def show(version: Annotated[int | None, typer.Option(min=1, help="default: the newest")] = None) -> None:
    """Prints a rate book as the file that would apply it."""
    from services.message_router.rate_file import rates_file

    book = _known(version)
    if book is None:
        if version is not None:
            raise CliError(f"There is no rate book {version}.")
        raise CliError("No rate book was applied yet; `switchboard rates apply FILE` applies one.")
    typer.echo(rates_file(book), nl=False)


@app.command()
def check(file: _File) -> None:
    """Says what applying the file would change. Applies nothing."""
    book = read_rates(file)
    _print_changes(_known(None), book)


@app.command()
def apply(
    file: _File,
    timeout: Annotated[float, typer.Option(min=0.1, help="seconds to wait until the router has it")] = 30.0,
) -> None:
    """Applies the file as a whole, instead of the rate book before it. Prints what changes, and the new version."""
    book = read_rates(file)
    _print_changes(_known(None), book)
    applied = _run(lambda pool: _apply(pool, book, timeout))
    typer.echo(f"Rate book {applied.version} is applied.")


def _print_changes(before: ApplyRateBook | None, after: ApplyRateBook) -> None:
    from services.message_router.rate_file import rate_changes

    lines = rate_changes(() if before is None else before.rates, after.rates)
    for line in lines or ("No rate changes.",):
        typer.echo(line)


def _known(version: int | None) -> ApplyRateBook | None:
    from services.message_router.rate_book import rate_book

    return _run(lambda pool: rate_book(pool, version))


async def _apply(pool: Pool, book: ApplyRateBook, timeout: float) -> ApplyRateBook:
    from contracts.kafka.router import Router
    from services.infrastructure.kafka import security_options
    from services.message_router.rate_book import RateBookNotApplied, apply_and_wait

    async with Router(
        bootstrap_servers(), source="switchboard-cli", account="platform", actor=local_user(), **security_options()
    ) as router:
        try:
            return await apply_and_wait(pool, book, router.apply_rate_book, timeout)
        except RateBookNotApplied as error:
            raise CliError(str(error)) from None


def _run(use: Callable[[Pool], Awaitable[Result]]) -> Result:
    from services.message_router.service import MIGRATIONS

    return run_with_pool("message_router", MIGRATIONS, use)

"""``switchboard usage``: what is charged, by day."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.connections import run_with_pool
from services.cli.errors import CliError, require_id
from services.cli.output import Format, Output, print_rows

if TYPE_CHECKING:
    from services.infrastructure.postgres import Pool
    from services.message_router.usage_report import UsagePeriod

app = typer.Typer(help="Usage: what is charged.", no_args_is_help=True)


@app.command()
def report(
    first: Annotated[
        datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], metavar="DAY", help="default: the month's first")
    ] = None,
    last: Annotated[
        datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], metavar="DAY", help="included; default: today")
    ] = None,
    account: Annotated[
        str | None, typer.Option(envvar="SWITCHBOARD_ACCOUNT", help="the account's id; default: all accounts")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="as CSV")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="at most this many rows; default: all")] = None,
    output: Output = None,
) -> None:
    """Prints the usage of some UTC days, by day, account, channel, country and fee class.

    A charge that came after its day was over is booked on the day on which it came, in a row with `correction_of`.
    """
    from services.message_router.service import MIGRATIONS
    from services.message_router.usage_report import UsagePeriod

    require_id("--account", account)
    end = last.date() if last else datetime.now(UTC).date()
    begin = first.date() if first else end.replace(day=1)
    if begin > end:
        raise CliError(f"--from {begin} is after --to {end}.")
    period = UsagePeriod(begin, end, account)
    run_with_pool("message_router", MIGRATIONS, lambda pool: _print(pool, period, output, limit, as_csv=as_csv))


async def _print(pool: Pool, period: UsagePeriod, output: Format | None, limit: int | None, *, as_csv: bool) -> None:
    from services.message_router.usage_report import COLUMNS, csv_lines, usage_pages

    if as_csv:
        sys.stdout.write(csv_lines())
    remaining = limit
    async for page in usage_pages(pool, period):
        rows = page[:remaining]
        if as_csv:
            sys.stdout.write(csv_lines(rows))
        else:
            print_rows(rows, output, COLUMNS)
        if remaining is not None:
            remaining -= len(rows)
            if not remaining:
                return

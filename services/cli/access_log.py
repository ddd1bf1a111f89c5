"""``switchboard access-log``: shown secrets, failed log-ons, denied operations, and changes of API keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from contracts.access_log import ACCESS_RECORDS
from services.cli.connections import run_with_pool
from services.cli.errors import CliError, require_id
from services.cli.output import Format, Output, print_rows
from services.cli.times import parse_instant

if TYPE_CHECKING:
    from services.gateway.authentication.access_log import AccessLogFilter
    from services.infrastructure.postgres import Pool

app = typer.Typer()

_PAGE = 1_000


@app.command("access-log")
def access_log(
    account: Annotated[str | None, typer.Option(help="one account; default: all, and what concerns none")] = None,
    type_: Annotated[
        list[str] | None, typer.Option("--type", help="type of the record; several times for several")
    ] = None,
    since: Annotated[str | None, typer.Option(help="a time: records from then on")] = None,
    until: Annotated[str | None, typer.Option(help="a time: records before it")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="at most this many; default: all")] = None,
    output: Output = None,
) -> None:
    """Prints who was shown secrets or refused, and which API keys changed, oldest first."""
    require_id("--account", account)
    for name in type_ or ():
        if name not in ACCESS_RECORDS:
            raise CliError(f"There is no type {name!r}; choose from {', '.join(ACCESS_RECORDS)}.")
    from services.gateway.authentication import api_keys
    from services.gateway.authentication.access_log import AccessLogFilter, Concerned

    asked = AccessLogFilter(
        Concerned(account),
        tuple(type_ or ()),
        parse_instant("--since", since),
        parse_instant("--until", until, excluded=True),
    )
    run_with_pool("gateway", api_keys.MIGRATIONS, lambda pool: _print(pool, asked, limit, output))


async def _print(pool: Pool, asked: AccessLogFilter, limit: int | None, output: Format | None) -> None:
    from services.gateway.authentication.access_log import list_records

    after: int | None = 0
    while after is not None and limit != 0:
        records, after = await list_records(pool, asked, after, min(_PAGE, limit or _PAGE))
        print_rows(records, output, ("time", "type", "actor", "actorname", "subject", "accountid", "data"))
        limit = None if limit is None else limit - len(records)

"""``switchboard access-log``: shown secrets, failed log-ons, denied operations, and changes of API keys."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from contracts.access_log import ACCESS_RECORDS
from contracts.message import parse_rfc3339
from services.cli.connections import run_with_pool
from services.cli.errors import CliError, require_id

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
) -> None:
    """Prints who was shown secrets or refused, and which API keys changed: one JSON line per record, oldest first."""
    require_id("--account", account)
    for name in type_ or ():
        if name not in ACCESS_RECORDS:
            raise CliError(f"There is no type {name!r}; choose from {', '.join(ACCESS_RECORDS)}.")
    from services.gateway.authentication import api_keys
    from services.gateway.authentication.access_log import AccessLogFilter, Concerned

    asked = AccessLogFilter(
        Concerned(account), tuple(type_ or ()), _instant("--since", since), _instant("--until", until)
    )
    run_with_pool("gateway", api_keys.MIGRATIONS, lambda pool: _print(pool, asked))


async def _print(pool: Pool, asked: AccessLogFilter) -> None:
    from services.gateway.authentication.access_log import list_records

    after: int | None = 0
    while after is not None:
        records, after = await list_records(pool, asked, after, _PAGE)
        for one in records:
            typer.echo(json.dumps(one))


def _instant(option: str, text: str | None) -> datetime | None:
    try:
        return None if text is None else parse_rfc3339(text).astimezone(UTC)
    except ValueError as error:
        raise CliError(f"{option} is wrong: {error}.") from None

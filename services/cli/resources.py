"""``switchboard resources``: reports, withdraws and lists the platform's pools of sender numbers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from contracts.envelope import validation_message
from contracts.message import rfc3339
from contracts.scheduling_resource import ReportSchedulingResource
from services.cli.connections import bootstrap_servers, run_with_pool
from services.cli.errors import CliError, require_id
from services.cli.output import Output, print_document, print_rows

app = typer.Typer(help="Scheduling resources: the platform's sender numbers, by country.", no_args_is_help=True)

_Resource = Annotated[str, typer.Argument(metavar="RESOURCE", help="the resource's id")]


@app.command()
def report(
    resource: _Resource,
    country: Annotated[str, typer.Option(help="two letters, such as IN")],
    sender: Annotated[str, typer.Option(help="its number in E.164")],
    units: Annotated[int, typer.Option(help="messages that are left")],
    valid_seconds: Annotated[int, typer.Option(help="how long the report holds")] = 3600,
    as_of: Annotated[str | None, typer.Option(metavar="TIME", help="when so many were left; default: now")] = None,
    output: Output = None,
) -> None:
    """Reports how many units a resource has left as of a time. What is reserved later is subtracted."""
    try:
        snapshot = ReportSchedulingResource(
            resource=resource,
            country=country,
            sender=sender,
            units=units,
            as_of=as_of or rfc3339(time.time_ns() // 1_000_000),
            valid_seconds=valid_seconds,
        )
    except ValidationError as error:
        raise CliError(f"The report cannot be sent: {validation_message(error)}") from None
    asyncio.run(_with_router(lambda router: router.report_resource(snapshot)))
    print_document({"resource": resource, "units": units}, output)


@app.command()
def withdraw(resource: _Resource, output: Output = None) -> None:
    """Withdraws a resource until it is reported again."""
    require_id("RESOURCE", resource)
    asyncio.run(_with_router(lambda router: router.withdraw_resource(resource)))
    print_document({"resource": resource, "withdrawn": True}, output)


@app.command("list")
def list_(
    limit: Annotated[int | None, typer.Option(min=1, help="at most this many; default: all")] = None,
    output: Output = None,
) -> None:
    """Lists the resources with the units that are left."""
    from services.message_router.resource_list import list_resources
    from services.message_router.service import MIGRATIONS

    now = time.time_ns() // 1_000_000
    found = run_with_pool("message_router", MIGRATIONS, lambda pool: list_resources(pool, now))
    print_rows(
        found[:limit], output, ("resource", "country", "sender", "state", "available", "units", "as_of", "valid_until")
    )


async def _with_router(use: Callable[[Any], Awaitable[None]]) -> None:
    from contracts.kafka.router import Router
    from services.infrastructure.kafka import security_options

    async with Router(
        bootstrap_servers(), source="switchboard-cli", account="platform", **security_options()
    ) as router:
        await use(router)

"""``switchboard trigger``: calls an intent once as a test, at whoever listens."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from services.cli.command_reference import read_data
from services.cli.errors import CliError, require_id
from services.cli.output import Output, print_document
from services.cli.wording import examples

app = typer.Typer()

_TIMEOUT_S = 40.0
"""Longer than the API waits for the end of the call."""


@app.command(
    epilog=examples(
        "switchboard trigger ORDER_STATUS --channel demo-whatsapp --system crm",
        "switchboard trigger ORDER_STATUS --channel demo-whatsapp --system crm --data '{\"order\": 42}'",
    )
)
def trigger(
    code: Annotated[str, typer.Argument(metavar="INTENT", help="its code, such as ORDER_STATUS")],
    channel: Annotated[str, typer.Option(help="the channel's id")],
    system: Annotated[str, typer.Option(help="the business system's id")],
    data: Annotated[
        str | None,
        typer.Option(help="JSON; @FILE reads it from a file, - from standard input; default: the intent's own data"),
    ] = None,
    settings_version: Annotated[int | None, typer.Option(min=1, help="wait until this version is known")] = None,
    output: Output = None,
) -> None:
    """Calls an intent once as a test, and prints the delivery. Exit code 0: the answer was 2xx; 1: it was not.

    The call goes to a running `switchboard listen`, not to the business system. Both use SWITCHBOARD_API_URL and
    SWITCHBOARD_API_KEY; beside a running `up` these are found.
    """
    for option, value in (("INTENT", code), ("--channel", channel), ("--system", system)):
        require_id(option, value)
    given: dict[str, Any] = {} if data is None else {"data": read_data(data)}
    from services.cli.http_api import ApiUnavailable, HttpApi

    api = HttpApi.from_environment()
    path = f"channels/{channel}/business-systems/{system}/intents/{code}/trigger"
    if settings_version is not None:
        path += f"?min_version={settings_version}"

    async def ask() -> dict[str, Any]:
        async with api:
            answer: dict[str, Any] = await api("POST", path, given, timeout_s=_TIMEOUT_S)
            return answer

    try:
        delivery = asyncio.run(ask())["delivery"]
    except ApiUnavailable as error:
        raise CliError(str(error)) from None
    print_document(delivery, output)
    if delivery["state"] != "delivered":
        raise typer.Exit(1)

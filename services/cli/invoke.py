"""``switchboard invoke``: calls an intent of a business system, and prints what it answered."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from pydantic import ValidationError

from contracts.envelope import validation_message
from contracts.invocation import InvokeIntent
from services.cli.call_request import ended_call
from services.cli.command_reference import read_data
from services.cli.errors import CliError, require_id
from services.cli.output import Output, print_document
from services.cli.wording import examples

app = typer.Typer()


@app.command(
    epilog=examples(
        """switchboard invoke ORDER_STATUS --system crm --channel demo-whatsapp --account acme --data '{"order": 42}'"""
    )
)
def invoke(
    code: Annotated[str, typer.Argument(metavar="INTENT", help="its code, such as ORDER_STATUS")],
    channel: Annotated[str, typer.Option(help="the channel's id")],
    system: Annotated[str, typer.Option(help="the business system's id")],
    account: Annotated[str, typer.Option(envvar="SWITCHBOARD_ACCOUNT", help="the account's id")] = "",
    data: Annotated[
        str | None,
        typer.Option(help="JSON; @FILE reads it from a file, - from standard input; default: the intent's own data"),
    ] = None,
    template: Annotated[str | None, typer.Option(help="the template that calls it")] = None,
    ttl: Annotated[
        int | None, typer.Option("--ttl-seconds", help="give the call up after so many seconds; default: the invoker's")
    ] = None,
    settings_version: Annotated[int | None, typer.Option(min=1, help="wait until this version is known")] = None,
    timeout: Annotated[float, typer.Option(min=1, help="seconds to wait for the end of the call")] = 30.0,
    output: Output = None,
) -> None:
    """Calls an intent, and prints the delivery. Exit code 0: the system answered 2xx; 1: it did not."""
    require_id("--channel", channel)
    require_id("--account", account)
    given: dict[str, Any] = {
        "system": system,
        "code": code,
        "data": None if data is None else read_data(data),
        "template": template,
        "ttl_seconds": ttl,
        "settings_version": settings_version,
    }
    try:
        command = InvokeIntent(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise CliError(f"The intent cannot be called: {validation_message(error)}") from None
    found = ended_call(command, channel, account, timeout)
    print_document(found, output)
    if found["state"] != "delivered":
        raise typer.Exit(1)

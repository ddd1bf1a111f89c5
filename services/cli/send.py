"""``switchboard send``: publishes one command and prints its outcome."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from contracts.channel import RetireChannel
from contracts.sealing import SealKey, plain_token_of
from contracts.signature import RefreshSignature, RevealSignature
from services.cli.command_reference import DATA_HELP, SENT_BY_PEOPLE, check_command, complete_command, read_data
from services.cli.connections import bootstrap_servers
from services.cli.errors import CliError, require_id
from services.cli.local_user import local_user
from services.cli.output import Output, print_document
from services.cli.send_plan import confirm
from services.cli.wording import examples

app = typer.Typer()


@app.command(
    epilog=examples(
        """switchboard send ToggleSms --account acme --channel demo-whatsapp --data '{"enabled": true}'""",
        "switchboard send SaveOtpScheduling --channel demo-whatsapp --data @form.json --dry-run",
    )
    + f"\n\nCommands: {', '.join(SENT_BY_PEOPLE)}. `switchboard explain COMMAND` shows what one takes."
)
def send(
    command: Annotated[
        str,
        typer.Argument(
            metavar="COMMAND",
            help="its type, such as ToggleSms; `switchboard explain` lists all",
            autocompletion=complete_command,
        ),
    ],
    channel: Annotated[str, typer.Option(help="the channel's id")],
    data: Annotated[str, typer.Option(help=DATA_HELP)] = "{}",
    account: Annotated[str, typer.Option(envvar="SWITCHBOARD_ACCOUNT", help="the account's id")] = "",
    actor: Annotated[str | None, typer.Option(help="the actor; default: the user of this machine")] = None,
    expected_version: Annotated[
        int | None, typer.Option(min=0, help="reject it if the channel changed after this version")
    ] = None,
    command_id: Annotated[
        str | None, typer.Option(help="a command sent again with its id gets the same outcome")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print what would happen, and change nothing")] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="seconds to wait for the outcome")] = 30.0,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="retire a channel without asking")] = False,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="show the signature that a refresh or reveal returns, which travels sealed")
    ] = False,
    output: Output = None,
) -> None:
    """Publishes a command and prints its outcome. Exit code 0: accepted; 1: rejected; 2: not sent."""
    for option, value in (("--channel", channel), ("--account", account), ("--command-id", command_id or None)):
        require_id(option, value)
    parsed = read_data(data)
    if reveal and command_id is not None:
        raise CliError(
            "--reveal makes a new key pair each time, so leave out --command-id: no sending is like another."
        )
    key = _seal_key(command, parsed) if reveal else None
    check_command(command, parsed)
    if command == RetireChannel.__name__ and not dry_run:
        question = f"Retire channel {channel} for good? It never comes back, and its signatures are deleted."
        if not confirm(question, yes=yes):
            raise CliError("Nothing was sent.")
    sending = _send(
        bootstrap_servers(),
        command,
        parsed,
        channel=channel,
        account=account,
        actor=actor or local_user(),
        expected_version=expected_version,
        command_id=command_id,
        dry_run=dry_run,
        timeout=timeout,
    )
    try:
        outcome = asyncio.run(sending)
    except ValueError as error:
        raise CliError(f"The command cannot be sent: {error}.") from None
    body = {"command_id": outcome.command_id, "outcome": type(outcome.body).__name__}
    body |= outcome.body.model_dump(exclude_none=True)
    if key is not None and "sealed" in body:
        body["signature"] = key.open(body.pop("sealed"))
        body["plain_token"] = plain_token_of(body["signature"])
    if outcome.repeated:
        body["repeated"] = True
    print_document(body, output)
    if not outcome.accepted:
        raise typer.Exit(1)


def _seal_key(command: str, data: dict[str, Any]) -> SealKey:
    """A key pair for this command alone; its public half joins the data."""
    if command not in (RefreshSignature.__name__, RevealSignature.__name__):
        raise CliError("--reveal is for RefreshSignature and RevealSignature: no other outcome has a signature.")
    if "seal_to" in data:
        raise CliError(
            "--reveal makes a 'seal_to' of its own; leave yours out, or open the outcome's 'sealed' yourself."
        )
    key = SealKey()
    data["seal_to"] = key.seal_to
    return key


async def _send(broker: str, command: str, data: dict[str, Any], **options: Any) -> Any:
    from contracts.kafka.publisher import Publisher
    from services.infrastructure.kafka import security_options

    async with Publisher(broker, source="switchboard-cli", **security_options()) as publisher:
        return await publisher.send_raw(command, data, **options)

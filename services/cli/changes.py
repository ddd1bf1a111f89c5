"""``switchboard changes``: proposes, approves and declines changes through Kafka, and lists them from the database."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.command_reference import DATA_HELP, complete_command, read_data
from services.cli.connections import run_with_pool
from services.cli.errors import require_id
from services.cli.output import Output, print_rows
from services.cli.send import send

if TYPE_CHECKING:
    from services.infrastructure.postgres import Pool

app = typer.Typer(help="Proposed changes: what a second person approves.", no_args_is_help=True)

_Channel = Annotated[str, typer.Option(help="the channel's id")]
_Account = Annotated[str, typer.Option(envvar="SWITCHBOARD_ACCOUNT", help="the account's id")]
_Actor = Annotated[str | None, typer.Option(help="the actor; default: the user of this machine")]
_Change = Annotated[str, typer.Argument(metavar="CHANGE", help="the change's id")]
_Comment = Annotated[str | None, typer.Option(help="for whoever reads it")]


@app.command("list")
def list_(
    channel: _Channel,
    account: _Account = "",
    open_: Annotated[bool, typer.Option("--open", help="only those that are not over")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="at most this many")] = 100,
    output: Output = None,
) -> None:
    """Lists the channel's proposed changes, newest first."""
    from projections import MIGRATIONS
    from projections.history.proposed_changes import list_changes

    for option, value in (("--channel", channel), ("--account", account)):
        require_id(option, value)

    async def changes(pool: Pool) -> list[Any]:
        return list(await list_changes(pool, account, channel, only_open=open_, limit=limit))

    columns = ("change", "status", "affects", "proposed_by", "proposed_at", "at", "approved_by", "closed_at")
    print_rows(run_with_pool("projections", MIGRATIONS, changes), output, columns)


@app.command()
def propose(
    change: Annotated[str, typer.Argument(metavar="CHANGE", help="an id of your choice for this change")],
    command: Annotated[
        str,
        typer.Argument(
            metavar="COMMAND", help="the command's type, such as SaveOtpScheduling", autocompletion=complete_command
        ),
    ],
    channel: _Channel,
    data: Annotated[str, typer.Option(help=DATA_HELP)] = "{}",
    account: _Account = "",
    actor: _Actor = None,
    comment: _Comment = None,
    at: Annotated[str | None, typer.Option(help="carry it out at this instant, once approved")] = None,
    replaces: Annotated[str | None, typer.Option(help="an earlier change of yours, which is then void")] = None,
    expected_version: Annotated[
        int | None, typer.Option(min=0, help="reject it if its subject changed after this version")
    ] = None,
) -> None:
    """Proposes a command and prints the outcome. Exit code 0: accepted; 1: rejected; 2: not sent."""
    proposed = {"type": command, "data": read_data(data)}
    optional = {"comment": comment, "at": at, "replaces": replaces}
    body = {"change": change, "command": proposed} | _given(optional)
    _send("ProposeChange", body, channel, account, actor, expected_version)


@app.command()
def approve(
    change: _Change, channel: _Channel, account: _Account = "", actor: _Actor = None, comment: _Comment = None
) -> None:
    """Approves somebody else's change, which is then carried out, now or at its instant."""
    _send("ApproveChange", {"change": change} | _given({"comment": comment}), channel, account, actor)


@app.command()
def decline(
    change: _Change, channel: _Channel, account: _Account = "", actor: _Actor = None, comment: _Comment = None
) -> None:
    """Declines a change that is not carried out yet, or withdraws one of your own."""
    _send("DeclineChange", {"change": change} | _given({"comment": comment}), channel, account, actor)


def _given(fields: dict[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in fields.items() if value is not None}


def _send(
    command: str,
    data: dict[str, Any],
    channel: str,
    account: str,
    actor: str | None,
    expected_version: int | None = None,
) -> None:
    send(command, channel, json.dumps(data), account, actor, expected_version)

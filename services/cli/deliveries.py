"""``switchboard deliveries``: lists and replays signed calls in the database, and makes test calls through Kafka."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from contracts.invocation import DeliveryState, MakeTestCall
from services.cli.call_request import ended_call
from services.cli.connections import Result, run_with_pool
from services.cli.errors import CliError, require_id
from services.cli.local_user import local_user
from services.cli.output import Output, print_document, print_rows

if TYPE_CHECKING:
    from services.infrastructure.postgres import Pool

app = typer.Typer(help="Signed calls: what became of them, replays, and test calls.", no_args_is_help=True)

Account = Annotated[
    str | None, typer.Option(envvar="SWITCHBOARD_ACCOUNT", help="the account's id; default: all accounts")
]
_Channel = Annotated[str | None, typer.Option(help="one channel")]
_System = Annotated[str | None, typer.Option(help="one business system")]
_States = Annotated[list[str] | None, typer.Option("--state", help="only in this state; may be repeated")]


@app.command("list")
def list_(
    account: Account = None,
    channel: _Channel = None,
    system: _System = None,
    state: _States = None,
    before: Annotated[str | None, typer.Option(help="the last id of the previous page")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="at most this many")] = 100,
    output: Output = None,
) -> None:
    """Lists deliveries, newest first."""
    from services.invoker import delivery_log

    chosen = delivery_log.DeliveryFilter(account, channel, system, _states(state), before=before)
    found = _with_pool(lambda pool: delivery_log.list_deliveries(pool, chosen, limit))
    print_rows(found, output, ("id", "channel", "system", "code", "state", "requested_at", "ended_at"))


@app.command()
def show(
    delivery: Annotated[str, typer.Argument(metavar="DELIVERY", help="its id, which is the webhook-id")],
    account: Account = None,
    output: Output = None,
) -> None:
    """Shows one delivery, with the answer to every attempt."""
    from services.invoker import delivery_log

    found = _with_pool(lambda pool: delivery_log.get_delivery(pool, account, delivery))
    if found is None:
        raise CliError(f"There is no delivery {delivery!r}; `switchboard deliveries list` lists them.")
    print_document(found, output)


@app.command()
def replay(
    delivery: Annotated[
        str | None, typer.Argument(metavar="DELIVERY", help="its id; default: all deliveries that the options select")
    ] = None,
    account: Account = None,
    channel: _Channel = None,
    system: _System = None,
    state: _States = None,
    limit: Annotated[int, typer.Option(min=1, help="at most this many")] = 1_000,
    output: Output = None,
) -> None:
    """Sends again what ended or is parked, with the same webhook-id; by default the dead deliveries."""
    from services.invoker import delivery_log

    states = _states(state) or (() if delivery else ("dead",))
    if refused := sorted(set(states) - set(delivery_log.REPLAYABLE)):
        raise CliError(f"--state {refused[0]} cannot be sent again; choose of {', '.join(delivery_log.REPLAYABLE)}.")
    if delivery is None and account is None:
        raise CliError("Name a delivery, or the --account whose deliveries to send again.")
    chosen = delivery_log.DeliveryFilter(account, channel, system, states, id=delivery)
    actor = f"cli:{local_user()}"
    replayed = _with_pool(lambda pool: delivery_log.replay(pool, chosen, actor, limit))
    if delivery is not None and not replayed:
        raise CliError(f"There is no delivery {delivery!r} that ended or is parked.")
    print_document({"replayed": len(replayed), "more": delivery is None and len(replayed) == limit}, output)


@app.command("test-call")
def make_test_call(
    channel: Annotated[str, typer.Option(help="the channel's id")],
    system: Annotated[str, typer.Option(help="the business system")],
    account: Annotated[str, typer.Option(envvar="SWITCHBOARD_ACCOUNT", help="the account's id")] = "",
    key_id: Annotated[str | None, typer.Option(help="sign with this signature only")] = None,
    timeout: Annotated[float, typer.Option(min=1, help="seconds to wait for the attempt")] = 30.0,
    output: Output = None,
) -> None:
    """Calls the system once, exactly as a real delivery does. Exit code 0: it answered 2xx; 1: it did not."""
    require_id("--channel", channel)
    require_id("--account", account)
    command = MakeTestCall(system=system, key_id=key_id)
    found = ended_call(command, channel, account, timeout)
    print_document(found, output)
    if found["state"] != "delivered":
        raise typer.Exit(1)


def _states(given: list[str] | None) -> tuple[DeliveryState, ...]:
    from services.invoker import delivery_log

    if unknown := sorted(set(given or ()) - set(delivery_log.STATES)):
        raise CliError(f"There is no state {unknown[0]!r}; choose of {', '.join(delivery_log.STATES)}.")
    return tuple(state for state in delivery_log.STATES if state in (given or ()))


def _with_pool(use: Callable[[Pool], Awaitable[Result]]) -> Result:
    from services.invoker.service import MIGRATIONS

    return run_with_pool("invoker", MIGRATIONS, use)

"""``switchboard deliveries``: signed calls, read and sent again in the database, and test calls through Kafka."""

from __future__ import annotations

import asyncio
import getpass
import json
import time
from typing import Annotated, Any

import typer

from contracts.ids import is_name
from contracts.invocation import DeliveryState, MakeTestCall
from services.infrastructure.postgres import Pool, migrate, pool_of
from services.infrastructure.settings import Settings
from services.invoker import deliveries
from services.invoker.service import MIGRATIONS

app = typer.Typer(help="Signed calls: what became of them, and sending them again.", no_args_is_help=True)

Account = Annotated[str | None, typer.Option(envvar="SWITCHBOARD_ACCOUNT", help="the account's id; none: all")]
_Channel = Annotated[str | None, typer.Option(help="one channel")]
_System = Annotated[str | None, typer.Option(help="one business system")]
_States = Annotated[list[str] | None, typer.Option("--state", help="may be repeated")]


@app.command("list")
def list_(
    account: Account = None,
    channel: _Channel = None,
    system: _System = None,
    state: _States = None,
    before: Annotated[str | None, typer.Option(help="the id that the page before ended with")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
) -> None:
    """The newest first, a JSON line each."""
    chosen = deliveries.Chosen(account, channel, system, _states(state), before=before)
    for one in asyncio.run(_with_pool(lambda pool: deliveries.listed(pool, chosen, limit))):
        typer.echo(json.dumps(one, ensure_ascii=False))


@app.command()
def show(
    delivery: Annotated[str, typer.Argument(help="its id, which is the webhook-id")], account: Account = None
) -> None:
    """One signed call, with what was answered at every attempt."""
    from services.cli.main import Unusable

    found = asyncio.run(_with_pool(lambda pool: deliveries.shown(pool, account, delivery)))
    if found is None:
        raise Unusable(f"There is no delivery {delivery!r}; `switchboard deliveries list` names them.")
    typer.echo(json.dumps(found, indent=2, ensure_ascii=False))


@app.command()
def replay(
    delivery: Annotated[str | None, typer.Argument(help="its id; without one, all that the options choose")] = None,
    account: Account = None,
    channel: _Channel = None,
    system: _System = None,
    state: _States = None,
    limit: Annotated[int, typer.Option(min=1, help="at most so many")] = 1_000,
) -> None:
    """Sends again, with the same webhook-id, what ended or is parked; by default what is dead."""
    from services.cli.main import Unusable

    states = _states(state) or (() if delivery else ("dead",))
    if refused := sorted(set(states) - set(deliveries.REPLAYABLE)):
        raise Unusable(f"--state {refused[0]} cannot be sent again; choose of {', '.join(deliveries.REPLAYABLE)}.")
    if delivery is None and account is None:
        raise Unusable("Name a delivery, or the --account whose deliveries are to be sent again.")
    chosen = deliveries.Chosen(account, channel, system, states, id=delivery)
    actor = f"cli:{getpass.getuser()}"
    replayed = asyncio.run(_with_pool(lambda pool: deliveries.replay(pool, chosen, actor, limit)))
    if delivery is not None and not replayed:
        raise Unusable(f"There is no delivery {delivery!r} that ended or is parked.")
    typer.echo(json.dumps({"replayed": len(replayed), "more": delivery is None and len(replayed) == limit}))


@app.command("test-call")
def make_test_call(
    channel: Annotated[str, typer.Option(help="the channel's id")],
    system: Annotated[str, typer.Option(help="the business system")],
    account: Annotated[str, typer.Option(envvar="SWITCHBOARD_ACCOUNT", help="the account's id")] = "",
    key_id: Annotated[str | None, typer.Option(help="sign with this signature alone")] = None,
    timeout: Annotated[float, typer.Option(min=1, help="seconds to wait for the attempt")] = 30.0,
) -> None:
    """Calls the system once, exactly as a real delivery does: exit code 0 where it answered 2xx, else 1."""
    from services.cli.main import Unusable

    for name, value in (("--channel", channel), ("--account", account)):
        if not is_name(value):
            raise Unusable(f"{name} is {value!r}; it must be 1 to 128 characters of A-Z a-z 0-9 . _ : -")
    command = MakeTestCall(system=system, key_id=key_id)
    found = asyncio.run(_with_pool(lambda pool: _made(pool, command, channel, account, timeout)))
    if found is None:
        raise Unusable(f"The test call was not made within {timeout:g} s; `switchboard deliveries list` shows it.")
    typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
    if found["state"] != "delivered":
        raise typer.Exit(1)


def _states(given: list[str] | None) -> tuple[DeliveryState, ...]:
    from services.cli.main import Unusable

    if unknown := sorted(set(given or ()) - set(deliveries.STATES)):
        raise Unusable(f"There is no state {unknown[0]!r}; choose of {', '.join(deliveries.STATES)}.")
    return tuple(state for state in deliveries.STATES if state in (given or ()))


async def _made(pool: Pool, command: MakeTestCall, channel: str, account: str, timeout: float) -> Any:
    from contracts import topics
    from contracts.publisher import Publisher
    from services.cli.main import _broker
    from services.infrastructure.kafka import security_options

    bootstrap = _broker(Settings.from_environment())
    async with Publisher(bootstrap, source="switchboard-cli", account=account, **security_options()) as publisher:
        request_id = await publisher.publish(
            command, channel=channel, topic=topics.INVOCATION_REQUESTS.name, actor=getpass.getuser()
        )
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        found = await deliveries.find(pool, account, channel, request_id)
        if found is not None and found["ended_at"] is not None:
            return found
        await asyncio.sleep(0.05)
    return None


async def _with_pool(use: Any) -> Any:
    pool = await pool_of(Settings.from_environment(), size=2)
    try:
        await migrate(pool, "invoker", MIGRATIONS)
        return await use(pool)
    finally:
        await pool.close()

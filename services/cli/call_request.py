"""Requests a signed call through Kafka, and waits until the invoker's table has its end."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from contracts.invocation import InvokeIntent, MakeTestCall
from services.cli.connections import bootstrap_servers, run_with_pool
from services.cli.errors import CliError
from services.cli.local_user import local_user

if TYPE_CHECKING:
    from services.infrastructure.postgres import Pool


def ended_call(command: InvokeIntent | MakeTestCall, channel: str, account: str, timeout: float) -> dict[str, Any]:
    """The delivery, as `deliveries show` has it. Raises `CliError` where it has not ended after ``timeout`` seconds."""
    from services.invoker.service import MIGRATIONS

    found = run_with_pool("invoker", MIGRATIONS, lambda pool: _requested(pool, command, channel, account, timeout))
    if found is None:
        raise CliError(f"Nothing has read the request within {timeout:g} s; is an invoker running?")
    if found["ended_at"] is None:
        raise CliError(
            f"The call has not ended within {timeout:g} s; `switchboard deliveries show {found['id']}` shows it."
        )
    return found


async def _requested(
    pool: Pool, command: InvokeIntent | MakeTestCall, channel: str, account: str, timeout: float
) -> dict[str, Any] | None:
    from contracts.kafka.publisher import Publisher
    from services.infrastructure.kafka import security_options
    from services.invoker import delivery_log

    async with Publisher(
        bootstrap_servers(), source="switchboard-cli", account=account, **security_options()
    ) as publisher:
        request_id = await publisher.publish(command, channel=channel, actor=local_user())
    deadline = time.monotonic() + timeout
    while True:
        found = await delivery_log.find_by_request(pool, account, channel, request_id)
        if (found is not None and found["ended_at"] is not None) or time.monotonic() > deadline:
            return found
        await asyncio.sleep(0.05)

"""Closing an aiokafka client, even while its broker is unavailable."""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka.errors import KafkaConnectionError

from .aiokafka_internals import close_connections, fail_unsent, is_producer, network_client, sender_task

_STOP_TIMEOUT_S = 5.0


async def close_client(client: Any) -> None:
    """Stops a consumer or producer within seconds, raises nothing, and leaves no task behind."""
    stopping = asyncio.ensure_future(client.stop())
    await asyncio.wait([stopping], timeout=_STOP_TIMEOUT_S)
    if stopping.done() and not stopping.cancelled() and stopping.exception() is None:
        return
    stopping.cancel()
    await asyncio.gather(stopping, return_exceptions=True)
    if not is_producer(client):
        await close_connections(network_client(client))
        return
    await close_producer_unflushed(client, _STOP_TIMEOUT_S)
    fail_unsent(client, KafkaConnectionError("the broker was away"))


async def close_producer_unflushed(producer: Any, within_s: float) -> None:
    """Ends the producer's tasks and closes its connections, without flushing or resending."""
    sending = sender_task(producer)
    if sending is not None:
        sending.cancel()
    await close_connections(network_client(producer))
    if sending is not None:
        await asyncio.wait([sending], timeout=within_s)
        await network_client(producer).close()  # connections that opened meanwhile

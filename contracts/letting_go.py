"""Closing a client of aiokafka, however its broker is."""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka.errors import KafkaConnectionError

_WITHIN_S = 5.0


async def let_go(client: Any) -> None:
    """Stops a consumer or producer within seconds, raises nothing, and leaves no task behind.

    While the broker is away, aiokafka's producer waits for it for ever, and its consumer lets out the CancelledError of
    a fetch that it cancels itself; both then leave their connections open.
    """
    stopping = asyncio.ensure_future(client.stop())
    await asyncio.wait([stopping], timeout=_WITHIN_S)
    if stopping.done() and not stopping.cancelled() and stopping.exception() is None:
        return
    stopping.cancel()
    await asyncio.gather(stopping, return_exceptions=True)
    if not hasattr(client, "_sender"):
        await _close_connections(client._client)  # noqa: SLF001 -- it has no public name
        return
    await drop_producer(client, _WITHIN_S)
    unsent = client._message_accumulator  # noqa: SLF001
    # It takes from among those under way what has failed, even where that waits to be sent again.
    unsent._pending_batches.update(batch for batches in unsent._batches.values() for batch in batches)  # noqa: SLF001
    unsent.fail_all(KafkaConnectionError("the broker was away"))


async def drop_producer(producer: Any, within_s: float) -> None:
    """Ends its tasks and closes its connections: nothing is flushed, nothing is sent again."""
    sending = producer._sender.sender_task  # noqa: SLF001
    if sending is not None:
        sending.cancel()
    await _close_connections(producer.client)
    if sending is not None:
        await asyncio.wait([sending], timeout=within_s)
        await producer.client.close()  # what was being opened meanwhile


async def _close_connections(client: Any) -> None:
    """aiokafka opens new ones on a client that is closed, and waits for news of the cluster that it never gets: whoever
    wants the one is cancelled, whoever waits for the other is woken."""

    async def cancelled(*_: Any, **__: Any) -> None:
        raise asyncio.CancelledError

    client._get_conn = cancelled  # noqa: SLF001
    await client.close()
    news = asyncio.get_running_loop().create_future()
    news.set_result(False)
    client.force_metadata_update = lambda: news
    waited_for = client._md_update_fut  # noqa: SLF001
    if waited_for is not None and not waited_for.done():
        waited_for.set_result(False)

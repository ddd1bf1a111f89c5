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
    if hasattr(client, "_sender"):
        await _drop_producer(client)
    else:
        await close_connections(client._client)  # noqa: SLF001 -- it has no public name


async def _drop_producer(producer: Any) -> None:
    """Nothing more is sent, and who waits for a record learns that."""
    sending = producer._sender.sender_task  # noqa: SLF001
    if sending is not None:
        sending.cancel()
    await close_connections(producer.client)
    if sending is not None:
        await asyncio.wait([sending], timeout=_WITHIN_S)
    unsent = producer._message_accumulator  # noqa: SLF001
    # It takes from among those under way what has failed, even where that waits to be sent again.
    unsent._pending_batches.update(batch for batches in unsent._batches.values() for batch in batches)  # noqa: SLF001
    unsent.fail_all(KafkaConnectionError("the broker was away"))


async def close_connections(client: Any) -> None:
    """Closes them, and wakes whoever waits for news of the cluster: a closed client brings none."""
    await client.close()
    news = asyncio.get_running_loop().create_future()
    news.set_result(False)
    client.force_metadata_update = lambda: news
    waited_for = client._md_update_fut  # noqa: SLF001
    if waited_for is not None and not waited_for.done():
        waited_for.set_result(False)

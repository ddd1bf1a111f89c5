"""What the clients use of aiokafka that has no public name. Read in aiokafka 0.14.0, which the wheel pins exactly.

While the broker is away, aiokafka's ``stop`` does not return, or leaves connections open: a producer waits for the
broker without end, and a consumer's cancelled fetch raises out of ``stop``. `client_shutdown` then ends the parts.

Importing this module changes four things for every client of this process: a request on a connection that uvloop has
closed fails as on any other closed connection, a connection over TLS closes at once, a consumer reads from leaders
alone, and it stops after a new assignment too.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.consumer import fetcher
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.fetch import FetchRequest

VERSION = "0.14.0"

_send = AIOKafkaConnection.send


def _send_or_close(self: Any, request: Any, expect_response: bool = True) -> Any:  # noqa: FBT001, FBT002 -- aiokafka's
    """aiokafka expects an OSError there. uvloop's RuntimeError ends the task that renews the cluster's metadata, and
    whoever waits for metadata then waits for ever: producers, after their broker was killed."""
    try:
        return _send(self, request, expect_response)
    except RuntimeError as error:
        self.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(f"Connection at {self._host}:{self._port} broken: {error}") from error


AIOKafkaConnection.send = _send_or_close

_close = AIOKafkaConnection.close


def _close_at_once(self: Any, reason: Any = None, exc: Any = None) -> Any:
    """Over TLS, closing waits until the broker has said goodbye too, up to 30 s. A broker that is away never does, nor,
    at times, one whose answer is on its way; and whoever stops a client waits. Nobody wants an answer any more."""
    writer = self._writer
    closed = _close(self, reason, exc)
    if writer is not None and self._security_protocol in ("SSL", "SASL_SSL"):
        writer.transport.abort()
    return closed


AIOKafkaConnection.close = _close_at_once

# From version 11 of the request on, a follower answers too. aiokafka does not say which leader it believes in, so after
# a paused broker came back as a follower, a consumer goes on reading there until its metadata is renewed, 5 minutes by
# default, and sees each record half a second late.
FetchRequest._CLASSES = tuple(one for one in FetchRequest._CLASSES if one.API_VERSION < 11)  # noqa: SLF001


async def _close_fetcher(self: Any) -> None:
    """aiokafka's own `close` raises the CancelledError of a fetch that it cancels during a back-off. To the caller that
    looks like a cancellation of its own task, and the connections stay open.

    A fetcher whose assignment has just changed takes the cancellation for that of a fetch which it cancels itself, and
    goes on. So it is cancelled until it ends.
    """
    self._closed = True
    while running := [task for task in (self._fetch_task, *self._pending_tasks) if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=0.1)
    await asyncio.gather(self._fetch_task, *self._pending_tasks, return_exceptions=True)
    for waiter in list(self._fetch_waiters):
        self._notify(waiter)


fetcher.Fetcher.close = _close_fetcher


def is_producer(client: Any) -> bool:
    return hasattr(client, "_sender")


def sender_task(producer: Any) -> asyncio.Task[None] | None:
    """The task that sends batches; None before the producer is started."""
    task: asyncio.Task[None] | None = producer._sender.sender_task  # noqa: SLF001
    return task


def network_client(consumer_or_producer: Any) -> Any:
    """The connections of a consumer or a producer."""
    return consumer_or_producer.client if is_producer(consumer_or_producer) else consumer_or_producer._client  # noqa: SLF001


def fail_unsent(producer: Any, error: Exception) -> None:
    """Fails every batch that is not acknowledged, so that nobody waits for it.

    ``fail_all`` removes what fails from the batches in flight, even a batch that waits to be retried. So all batches
    are entered there first. It also fails each batch's future for senders that wait for room in it. Mostly nobody
    does, and Python would warn that the exception was never retrieved.
    """
    accumulator = producer._message_accumulator  # noqa: SLF001
    unsent = {batch for batches in accumulator._batches.values() for batch in batches} | accumulator._pending_batches  # noqa: SLF001
    accumulator._pending_batches.update(unsent)  # noqa: SLF001
    accumulator.fail_all(error)
    for batch in unsent:
        batch._drain_waiter.exception()  # noqa: SLF001


async def close_connections(client: Any) -> None:
    """Closes a network client for good.

    aiokafka opens new connections on a closed client, and waits for cluster metadata that never comes. So each request
    for a connection is cancelled, and each wait for metadata is resolved with False.
    """

    async def cancelled(*_: Any, **__: Any) -> None:
        raise asyncio.CancelledError

    client._get_conn = cancelled  # noqa: SLF001
    await client.close()
    no_metadata = asyncio.get_running_loop().create_future()
    no_metadata.set_result(False)
    client.force_metadata_update = lambda: no_metadata
    update = client._md_update_fut  # noqa: SLF001
    if update is not None and not update.done():
        update.set_result(False)

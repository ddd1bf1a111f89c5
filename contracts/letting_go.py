"""Closing a client of aiokafka, however its broker is."""

from __future__ import annotations

import asyncio
from typing import Any

_WITHIN_S = 5.0


async def let_go(client: Any) -> None:
    """Stops a consumer or producer within seconds, and raises nothing.

    While the broker is away, aiokafka's producer waits for it for ever, and its consumer lets out the CancelledError of
    a fetch that it cancels itself; both then leave their connections open.
    """
    stopping = asyncio.ensure_future(client.stop())
    await asyncio.wait([stopping], timeout=_WITHIN_S)
    if stopping.done() and not stopping.cancelled() and stopping.exception() is None:
        return
    stopping.cancel()
    connections = getattr(client, "client", None) or client._client  # noqa: SLF001 -- a consumer's has no public name
    await asyncio.gather(stopping, connections.close(), return_exceptions=True)

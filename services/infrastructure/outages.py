"""Starting while the broker or the database is away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

log = structlog.stdlib.get_logger(__name__)

T = TypeVar("T")
_RETRY_INTERVAL_S = 1.0


class NotReady(Exception):
    """What is connected to answers, and lacks something; the sentence says what to do."""


async def retry_during_outage(
    connect: Callable[[], Awaitable[T]], outages: tuple[type[Exception], ...], resource: str
) -> T:
    """Calls ``connect`` until it raises neither `NotReady` nor one of ``outages``, and returns its result.

    Only the first failure is logged.
    """
    logged = False
    expected: tuple[type[Exception], ...] = (NotReady, *outages)
    while True:
        try:
            return await connect()
        except expected as error:
            if not logged:
                reason = str(error) if isinstance(error, NotReady) else type(error).__name__
                log.warning("waiting", resource=resource, reason=reason)
            logged = True
            await asyncio.sleep(_RETRY_INTERVAL_S)

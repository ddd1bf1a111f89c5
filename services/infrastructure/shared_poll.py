"""Waiting for something in the database: however many wait, one query at a time asks for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Generic, TypeVar

import structlog

from services.infrastructure.postgres import OUTAGES

log = structlog.stdlib.get_logger(__name__)

Key = TypeVar("Key", bound=Hashable)
Found = TypeVar("Found")


class SharedPoll(Generic[Key, Found]):
    """``find`` gets all keys that are waited for, and returns those that there are; it is called ``interval_s`` after
    its last answer, and only while somebody waits. While the database is away, who waits goes on waiting."""

    def __init__(self, find: Callable[[list[Key]], Awaitable[Mapping[Key, Found]]], interval_s: float) -> None:
        self._find, self._interval_s = find, interval_s
        self._waiting: dict[Key, set[asyncio.Future[Found]]] = {}
        self._polling: asyncio.Task[None] | None = None

    async def find(self, key: Key) -> Found | None:
        """Asks for one key now, as whoever need not wait does."""
        return (await self._find([key])).get(key)

    async def wait(self, key: Key) -> Found:
        """Returns what was found for the key, however long that takes. Raises what ``find`` raises, but for outages."""
        found: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, set()).add(found)
        if self._polling is None or self._polling.done():
            self._polling = asyncio.create_task(self._poll())
        try:
            return await found
        finally:
            self._waiting[key].discard(found)
            if not self._waiting[key]:
                del self._waiting[key]

    async def _poll(self) -> None:
        while self._waiting:
            try:
                for key, value in (await self._find(list(self._waiting))).items():
                    for waiting in self._pending(key):
                        waiting.set_result(value)
            except OUTAGES as error:
                log.debug("who waits goes on waiting", reason=type(error).__name__)
            except Exception as error:  # noqa: BLE001 -- whoever waits raises it
                for key in self._waiting:
                    for waiting in self._pending(key):
                        waiting.set_exception(error)
            await asyncio.sleep(self._interval_s)

    def _pending(self, key: Key) -> list[asyncio.Future[Found]]:
        return [waiting for waiting in self._waiting.get(key, ()) if not waiting.done()]

"""Turns to read Kafka for followers that are behind: few at once, and one of each account, so that one account cannot
take them all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

MAX_CONCURRENT_CATCH_UPS = 4


class CatchUpTurns:
    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(MAX_CONCURRENT_CATCH_UPS)
        self._account_turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, account: str | None) -> AsyncIterator[None]:
        """Waits for a turn, which lasts as long as the context."""
        own_turn = asyncio.Lock() if account is None else self._account_turns.setdefault(account, asyncio.Lock())
        async with own_turn, self._turns:
            yield

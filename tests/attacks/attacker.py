"""Who attacks: an account that sees the product from outside."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.receivers import Receiver

Attack = Callable[["Attacker"], Awaitable[None]]
IGNORED = (aiohttp.ClientError, OSError, TimeoutError, asyncio.IncompleteReadError)


@dataclass(slots=True)
class Attacker:
    """An account with a channel, a business system and an ordinary key."""

    address: str
    session: aiohttp.ClientSession
    receiver: Receiver
    account: str
    channel: str

    @property
    def system(self) -> str:
        return f"channels/{self.channel}/business-systems/evil"

    async def send(self, method: str, path: str, body: Any = None, **options: Any) -> int:
        """The status; 0 where there was no answer."""
        with contextlib.suppress(*IGNORED):
            timeout = aiohttp.ClientTimeout(total=60)
            async with self.session.request(method, path, json=body, timeout=timeout, **options) as response:
                await response.read()
                return response.status
        return 0

    async def for_ever(self, at_once: int, one: Callable[[int], Awaitable[Any]]) -> None:
        """``at_once`` loops of ``one``, each call with a number of its own."""
        numbers = itertools.count()

        async def loop() -> None:
            while True:
                await one(next(numbers))
                await asyncio.sleep(0)

        await asyncio.gather(*(loop() for _ in range(at_once)))

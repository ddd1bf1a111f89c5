"""Calls that go to listeners: offered in the database, where their answers are waited for."""

from __future__ import annotations

import asyncio
from functools import partial

from services.infrastructure.postgres import Pool
from services.infrastructure.shared_poll import SharedPoll
from services.invoker.limits import Limits
from services.invoker.queue.delivery import Delivery
from services.invoker.queue.listeners import ListenerAnswer, ended_calls, offer
from services.invoker.results.retry_policy import Failed

_POLL_S = 0.1
_GIVE_UP_S = 8.0
"""Beyond the time of the call, if the database is away; a lease lasts longer."""


class ListenerCalls:
    """Offers calls to listeners, and waits for the answers of all with one query at a time."""

    def __init__(self, pool: Pool, limits: Limits) -> None:
        self._pool, self._limits = pool, limits
        self._answers = SharedPoll(partial(ended_calls, pool), _POLL_S)

    async def ask(self, delivery: Delivery, style: str, traceparent: str | None) -> tuple[int, bytes] | Failed:
        """The status and bytes of the first answer, or the failure that a call of a URL would have had."""
        if not await offer(self._pool, delivery, style, traceparent, self._limits.call_timeout):
            return Failed("connect", "nobody listens")
        try:
            async with asyncio.timeout(self._limits.call_timeout + _GIVE_UP_S):
                return self._judged(await self._answers.wait(delivery.id))
        except TimeoutError:
            return Failed("answer", "the answer could not be read", our_fault=True)

    def _judged(self, answer: ListenerAnswer) -> tuple[int, bytes] | Failed:
        match answer:
            case ListenerAnswer(int(status), answered, _):
                return status, answered or b""
            case ListenerAnswer(failure="refused"):
                return Failed("connect", "no connection (Connection refused)")
            case ListenerAnswer(failure="broken"):
                return Failed("answer", "the connection broke")
            case _:
                return Failed("answer", f"no whole answer within {self._limits.call_timeout:g} s")

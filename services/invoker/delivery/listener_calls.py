"""Calls that go to listeners: offered in the database, where their answers are waited for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import structlog

from services.infrastructure.postgres import OUTAGES, Pool
from services.invoker.limits import Limits
from services.invoker.queue.delivery import Delivery
from services.invoker.queue.listeners import ListenerAnswer, ended_calls, offer
from services.invoker.results.retry_policy import Failed

log = structlog.stdlib.get_logger(__name__)

_POLL_S = 0.1
_GIVE_UP_S = 8.0
"""Beyond the time of the call, if the database is away; a lease lasts longer."""


class ListenerCalls:
    """Offers calls to listeners, and waits for the answers of all with one query at a time."""

    def __init__(self, pool: Pool, limits: Limits) -> None:
        self._pool, self._limits = pool, limits
        self._waiting: dict[str, asyncio.Future[ListenerAnswer]] = {}
        self._polling: asyncio.Task[None] | None = None

    async def ask(self, delivery: Delivery, style: str, traceparent: str | None) -> tuple[int, bytes] | Failed:
        """The status and bytes of the first answer, or the failure that a call of a URL would have had."""
        if not await offer(self._pool, delivery, style, traceparent, self._limits.call_timeout):
            return Failed("connect", "nobody listens")
        try:
            async with asyncio.timeout(self._limits.call_timeout + _GIVE_UP_S):
                with self._awaited(delivery.id) as answered:
                    return self._judged(await answered)
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

    @contextlib.contextmanager
    def _awaited(self, delivery: str) -> Iterator[asyncio.Future[ListenerAnswer]]:
        answered = self._waiting[delivery] = asyncio.get_running_loop().create_future()
        if self._polling is None or self._polling.done():
            self._polling = asyncio.create_task(self._poll())
        try:
            yield answered
        finally:
            del self._waiting[delivery]

    async def _poll(self) -> None:
        """Runs while somebody waits."""
        while self._waiting:
            try:
                for delivery, answer in (await ended_calls(self._pool, list(self._waiting))).items():
                    answered = self._waiting.get(delivery)
                    if answered is not None and not answered.done():
                        answered.set_result(answer)
            except OUTAGES as error:
                log.debug("answers of listeners wait for the database", reason=type(error).__name__)
            await asyncio.sleep(_POLL_S)

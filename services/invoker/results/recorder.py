"""The recorder: collects results and records many of them in one transaction, again until it succeeds."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import assert_never

import structlog

from services.infrastructure.postgres import OUTAGES, Pool
from services.invoker.limits import Limits
from services.invoker.results.attempt import DeliveryResult, RecordedBatch
from services.invoker.results.record_results import record_results
from services.invoker.results.retry_policy import Delivered, GaveUp, NextStep, Parked, Postponed, RetryAt

log = structlog.stdlib.get_logger(__name__)

_BATCH = 256
_LINGER_S = 0.005
"""Results that arrive meanwhile are recorded in the same transaction."""


class Recorder:
    """Records results in the order they come. ``on_recorded`` gets each batch that is recorded."""

    def __init__(
        self, pool: Pool, limits: Limits, on_recorded: Callable[[RecordedBatch], None], on_step: Callable[[str], None]
    ) -> None:
        self._pool, self._limits, self._on_recorded, self._on_step = pool, limits, on_recorded, on_step
        self._queue: asyncio.Queue[DeliveryResult] = asyncio.Queue()
        self.counters: Counter[str] = Counter()
        """Results by kind since the sweeper last added them to the totals."""

    def put(self, result: DeliveryResult) -> None:
        self._queue.put_nowait(result)

    async def drain(self) -> None:
        """Returns once all results are recorded."""
        await self._queue.join()

    async def run(self) -> None:
        while True:
            results = [await self._queue.get()]
            await asyncio.sleep(_LINGER_S)
            while len(results) < _BATCH and not self._queue.empty():
                results.append(self._queue.get_nowait())
            await self._record(results)
            for result in results:
                self._queue.task_done()
                if result.attempt is not None:
                    self._on_step("recorded")

    async def _record(self, results: list[DeliveryResult]) -> None:
        """Tries until the results are recorded, or cannot be for another reason than an outage."""
        while True:
            try:
                async with asyncio.timeout(self._limits.transaction_timeout), self._pool.acquire() as connection:
                    recorded = await record_results(connection, results, self._limits)
            except OUTAGES as error:
                log.warning("recorder waits for the database", results=len(results), reason=type(error).__name__)
                await asyncio.sleep(0.5)
            except Exception:
                # One that cannot be recorded must not take the others with it; its lease ends, and it is called again.
                if len(results) == 1:
                    log.exception("a result cannot be recorded", delivery=results[0].delivery.id)
                    return
                for result in results:
                    await self._record([result])
                return
            else:
                self._count(results, recorded.results)
                self._on_recorded(recorded)
                return

    def _count(self, results: list[DeliveryResult], recorded: list[DeliveryResult]) -> None:
        for result in recorded:
            self.counters[_counter_name(result.next_step)] += 1
        if len(recorded) < len(results):
            log.warning("results dropped, their lease had ended", results=len(results) - len(recorded))


def _counter_name(step: NextStep) -> str:
    match step:
        case Delivered():
            return "delivered"
        case GaveUp():
            return "dead"
        case RetryAt():
            return "retried"
        case Parked():
            return "parked"
        case Postponed():
            return "put_back"
        case _:
            assert_never(step)

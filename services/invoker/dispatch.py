"""Calls what is leased to this process, outside any transaction, and hands over what came of it.

What is due is claimed, by system and lane; a first attempt that has a free slot as it comes in is leased at once
(`ingest.py`). Every system has slots of its own, so that a black hole costs only itself, and so have retries, so that
they never take what first attempts need.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, assert_never

from services.infrastructure.postgres import OUTAGES, Pool
from services.infrastructure.vault import KeyRing
from services.invoker import queue
from services.invoker.call import Caller
from services.invoker.endpoints import Endpoint, Endpoints, Gone, Known, NotReadable, SystemKey, gone
from services.invoker.outcomes import GaveUp, Parked, PutBack, Try, what_next
from services.invoker.pace import Pace
from services.invoker.recording import Recorder
from services.invoker.results import Attempt, Result
from services.invoker.slots import Slots

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.25
_GATHER_S = 0.004
"""Between two claims: what comes due meanwhile is claimed together."""
_REFILL_S = 0.015
"""The same while every slot is taken: as many as get free meanwhile are filled together."""
_SECRETS_COME_WITHIN = timedelta(milliseconds=500)
_KEYRING_CHANGES_WITHIN = timedelta(minutes=1)


class Dispatcher:
    """Runs until cancelled. ``wake`` is set when there may be new work.

    ``on_step`` is told the steps of a delivery by name: ``leased`` or ``claimed``, ``called`` (and the recorder
    ``recorded``).
    """

    def __init__(
        self,
        pool: Pool,
        caller: Caller,
        keyring: KeyRing,
        recorder: Recorder,
        pace: Pace,
        on_step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._pool, self._caller, self._recorder = pool, caller, recorder
        self._endpoints = Endpoints(keyring)
        self._pace, self._on_step = pace, on_step
        self.slots = Slots(pace)
        self._more_awake = False
        self._calls: set[asyncio.Task[None]] = set()
        self.wake = asyncio.Event()

    async def run(self) -> None:
        try:
            while True:
                self.wake.clear()
                try:
                    async with asyncio.timeout(self._pace.database):
                        claimed = await self._claim()
                except OUTAGES as error:
                    log.warning("deliveries wait for the database (%s)", type(error).__name__)
                    claimed = 0
                    await asyncio.sleep(1)
                if not claimed:
                    try:
                        async with asyncio.timeout(_LOOK_EVERY_S):
                            await self.wake.wait()
                    except TimeoutError:
                        pass
                await asyncio.sleep(_GATHER_S if self.slots.free("first") > 0 else _REFILL_S)
        finally:
            if self._calls:
                await asyncio.wait(self._calls, timeout=5)
            for call in self._calls:
                call.cancel()

    def start(self, rows: Sequence[Any]) -> None:
        """Calls rows that are leased to this process and have their slots."""
        self._keep(asyncio.create_task(self._begin(rows, "leased")))

    async def _claim(self) -> int:
        awake = await queue.awake_lanes(self._pool)
        self._more_awake = bool(awake)
        rows: list[Any] = []
        short = False
        for lane in awake:
            free = self.slots.free(lane)
            claimed = await queue.claim(self._pool, lane, self.slots.busy, free, self._pace) if free > 0 else []
            for row in claimed:
                self.slots.take(*_place(row))
            rows += claimed
            short |= lane == "first" and len(claimed) >= free
        self.slots.short = short
        if rows:
            await self._begin(rows, "claimed")
        return len(rows)

    async def _begin(self, rows: Sequence[Any], step: str) -> None:
        """Starts the calls of rows, all of which have their slots."""
        try:
            async with self._pool.acquire() as connection:
                endpoints = await self._endpoints.of(connection, {(row["channel"], row["system"]) for row in rows})
        except BaseException:
            for row in rows:
                self.slots.give_back(*_place(row))
            raise
        for row in rows:
            self._on_step(step)
            call = self._keep(asyncio.create_task(self._deliver(row, endpoints[row["channel"], row["system"]])))
            call.add_done_callback(partial(self._ended, row))

    def _keep(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        self._calls.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("deliveries wait for their leases to end (%s)", type(error).__name__)

    def _ended(self, row: Any, _: asyncio.Task[None]) -> None:
        self.slots.give_back(*_place(row))
        if self._more_awake:
            self.wake.set()

    async def _deliver(self, row: Any, known: Known) -> None:
        if row["reason"] is not None:  # what it waited for was deleted, and may have been opened again since
            known = gone(row["reason"], row)
        elif isinstance(known, Endpoint) and row["key_alone"] is not None:
            known = known.alone(row["key_alone"])
        now = datetime.now(UTC)
        match known:
            case Gone(reason, message):
                self._recorder.put(Result(row, GaveUp(reason, message)))
            case NotReadable(None):
                self._recorder.put(Result(row, PutBack(now + _SECRETS_COME_WITHIN)))
            case NotReadable(why):
                log.error("%s", why)
                self._recorder.put(Result(row, PutBack(now + _KEYRING_CHANGES_WITHIN)))
            case Endpoint():
                if known.disabled and not row["test"]:
                    self._recorder.put(Result(row, Parked()))
                else:
                    await self._call(row, known)
            case _:
                assert_never(known)

    async def _call(self, row: Any, endpoint: Endpoint) -> None:
        started, clock = datetime.now(UTC), time.monotonic()
        ended = await self._caller.call(endpoint, row["id"], row["body"])
        self._on_step("called")
        attempt = Attempt(endpoint, started, round((time.monotonic() - clock) * 1000), ended)
        tried = Try(
            row["attempts"] - row["excused"], row["excused"] - row["before_replay"], row["expires_at"], once=row["test"]
        )
        spread = random.uniform(-1, 1)  # noqa: S311 -- jitter
        next_ = what_next(ended, tried, now=datetime.now(UTC), spread=spread, pace=self._pace)
        self._recorder.put(Result(row, next_, attempt))


def _place(row: Any) -> tuple[SystemKey, queue.Lane]:
    """Whose slot a row's call takes."""
    return (row["channel"], row["system"]), "retry" if row["attempts"] > 1 else "first"

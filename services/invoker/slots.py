"""Places for calls: so many at once in all, in each lane and for each system. Whoever takes one gives it back."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

from services.invoker.endpoints import SystemKey
from services.invoker.pace import Pace
from services.invoker.queue import Lane


class Slots:
    """What one process has in flight. ``short`` is set while more is due than has slots."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._limits: dict[Lane, int] = {"first": pace.firsts_at_once, "retry": pace.retries_at_once}
        self._in_lane: Counter[Lane] = Counter()
        self._freed = asyncio.Event()
        self.busy: Counter[SystemKey] = Counter()
        self.taken = 0
        self.short = False

    def free(self, lane: Lane) -> int:
        free = self._pace.calls_at_once - self.taken
        return min(free, self._limits[lane] - self._in_lane[lane]) if lane in self._limits else free

    def take(self, key: SystemKey, lane: Lane) -> None:
        self.taken += 1
        self._in_lane[lane] += 1
        self.busy[key] += 1

    def give_back(self, key: SystemKey, lane: Lane) -> None:
        self.taken -= 1
        self._in_lane[lane] -= 1
        self.busy[key] -= 1
        if not self.busy[key]:
            del self.busy[key]
        self._freed.set()

    def deal(self, keys: Sequence[SystemKey]) -> list[bool]:
        """Takes a slot for a first attempt at each system, as far as they go; says for which.

        Dealt out evenly, and in their order for each system. None while others wait for one.
        """
        free = 0 if self.short else self.free("first")
        share = -(-free // max(1, len(set(keys))))
        dealt: Counter[SystemKey] = Counter()
        given: list[bool] = []
        for key in keys:
            gets = free > 0 and dealt[key] < share and self.busy[key] < self._pace.calls_per_system
            if gets:
                self.take(key, "first")
                dealt[key] += 1
                free -= 1
            given.append(gets)
        return given

    async def room(self, count: int, patience_s: float) -> None:
        """Returns once so many first attempts have slots (or half of all slots are free), or others wait for some, or
        patience is at its end."""
        wanted, until = min(count, self._limits["first"] // 2), time.monotonic() + patience_s
        while self.free("first") < wanted and not self.short and (left := until - time.monotonic()) > 0:
            self._freed.clear()
            try:
                async with asyncio.timeout(left):
                    await self._freed.wait()
            except TimeoutError:
                return

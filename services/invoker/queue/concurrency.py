"""Concurrency limits of one process: calls in flight in all, per lane and per business system."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

from services.invoker.limits import Limits
from services.invoker.queue.delivery import SystemKey
from services.invoker.queue.scheduling import Lane


class ConcurrencyLimiter:
    """Counts the slots in use. The caller that acquires a slot releases it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lane_limits: dict[Lane, int] = {
            "first": limits.max_first_attempts,
            "retry": limits.max_retries,
        }
        self._in_lane: Counter[Lane] = Counter()
        self._released = asyncio.Event()
        self.in_flight_by_system: Counter[SystemKey] = Counter()
        self.in_flight = 0
        self.saturated = False
        """More first attempts are due than have slots."""

    def available(self, lane: Lane) -> int:
        available = self._limits.max_calls - self.in_flight
        if lane in self._lane_limits:
            return min(available, self._lane_limits[lane] - self._in_lane[lane])
        return available

    def acquire(self, system: SystemKey, lane: Lane) -> None:
        """Takes a slot, without a check."""
        self.in_flight += 1
        self._in_lane[lane] += 1
        self.in_flight_by_system[system] += 1

    def release(self, system: SystemKey, lane: Lane) -> None:
        self.in_flight -= 1
        self._in_lane[lane] -= 1
        self.in_flight_by_system[system] -= 1
        if not self.in_flight_by_system[system]:
            del self.in_flight_by_system[system]
        self._released.set()

    def acquire_first_attempts(self, systems: Sequence[SystemKey]) -> list[bool]:
        """Tries to acquire a slot for a first attempt at each system; returns for each whether it did.

        Slots are shared equally between the systems, and within a system given in order. While deliveries that are due
        wait for slots, none is acquired here.
        """
        available = 0 if self.saturated else self.available("first")
        share = -(-available // max(1, len(set(systems))))
        acquired: Counter[SystemKey] = Counter()
        results: list[bool] = []
        for system in systems:
            acquires = (
                available > 0
                and acquired[system] < share
                and self.in_flight_by_system[system] < self._limits.max_calls_per_system
            )
            if acquires:
                self.acquire(system, "first")
                acquired[system] += 1
                available -= 1
            results.append(acquires)
        return results

    async def wait_for_first_attempts(self, count: int, timeout_s: float) -> None:
        """Returns once ``count`` first attempts (at most half of all) have slots, on saturation or after the time."""
        wanted, deadline = min(count, self._lane_limits["first"] // 2), time.monotonic() + timeout_s
        while self.available("first") < wanted and not self.saturated and (left := deadline - time.monotonic()) > 0:
            self._released.clear()
            try:
                async with asyncio.timeout(left):
                    await self._released.wait()
            except TimeoutError:
                return

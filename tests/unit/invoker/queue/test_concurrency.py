"""How slots are shared between requests as they come in."""

from __future__ import annotations

import asyncio

from services.invoker.limits import Limits
from services.invoker.queue.concurrency import ConcurrencyLimiter

LIMITS = Limits(max_calls=12, max_first_attempts=10, max_retries=9, max_calls_per_system=4)
A, B, C = ("ch", "a"), ("ch", "b"), ("ch", "c")


def test_slots_are_shared_equally_and_in_order() -> None:
    limiter = ConcurrencyLimiter(LIMITS)
    assert limiter.acquire_first_attempts([A] * 6 + [B] * 2) == [True] * 4 + [False] * 2 + [True] * 2
    assert limiter.acquire_first_attempts([A, B, C, C, C, C]) == [False, True, True, True, False, False]
    assert (limiter.in_flight, limiter.available("first"), limiter.in_flight_by_system[C]) == (9, 1, 2)
    assert limiter.acquire_first_attempts([B, C]) == [True, False]
    assert limiter.acquire_first_attempts([C]) == [False]


def test_each_lane_has_reserved_slots() -> None:
    limiter = ConcurrencyLimiter(LIMITS)
    for number in range(10):
        limiter.acquire(("ch", f"s{number}"), "first")
    assert (limiter.available("first"), limiter.available("retry"), limiter.available("test")) == (0, 2, 2)
    limiter.release(("ch", "s0"), "first")
    assert (limiter.available("first"), limiter.available("retry"), len(limiter.in_flight_by_system)) == (1, 3, 9)


async def test_waiting_for_slots_ends_with_free_slots_a_timeout_or_saturation() -> None:
    limiter = ConcurrencyLimiter(LIMITS)
    acquired = [
        key
        for key, has_slot in zip([A, B, C] * 4, limiter.acquire_first_attempts([A, B, C] * 4), strict=True)
        if has_slot
    ]
    assert len(acquired) == 10
    waiting = asyncio.create_task(limiter.wait_for_first_attempts(2, timeout_s=60))
    for key in acquired[:2]:
        await asyncio.sleep(0)
        assert not waiting.done()
        limiter.release(key, "first")
    await waiting
    await limiter.wait_for_first_attempts(100, timeout_s=0.01)
    limiter.saturated = True
    await limiter.wait_for_first_attempts(100, timeout_s=60)

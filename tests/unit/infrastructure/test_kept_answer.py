"""One question for all who ask at once, and for a moment after."""

from __future__ import annotations

import asyncio

import pytest

from services.infrastructure.kept_answer import KeptAnswer


async def test_it_is_found_once_for_all_and_kept_for_a_moment() -> None:
    found, now = 0, 0.0

    async def find() -> int:
        nonlocal found
        found += 1
        await asyncio.sleep(0)
        return found

    kept = KeptAnswer(find, 1.0, lambda: now)
    assert await asyncio.gather(*(kept.get() for _ in range(64))) == [1] * 64
    now = 0.9
    assert await kept.get() == 1
    now = 1.0
    assert await kept.get() == 2


async def test_who_gives_up_ends_it_for_nobody_else() -> None:
    go = asyncio.Event()

    async def find() -> bool:
        return await go.wait()

    kept = KeptAnswer(find, 1.0)
    first, second = (asyncio.create_task(kept.get()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    go.set()
    assert await second

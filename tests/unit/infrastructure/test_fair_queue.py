"""The fair queue: accounts take turns, however many requests each has."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.requests import schema_queue
from services.infrastructure.fair_queue import FairQueue, QueueFull, Turn
from tests.patience import PATIENCE_S


async def _order(requests: list[str], concurrent: int) -> list[str]:
    """The accounts in the order in which their requests are served, when all come before the first one ends."""
    queue, served = FairQueue(concurrent, concurrent, 1_000), []
    begin = asyncio.Event()

    async def one(account: str) -> None:
        async with queue.turn(account):
            await begin.wait()
            served.append(account)
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(one(account)) for account in requests]
    await asyncio.sleep(0)
    begin.set()
    await asyncio.gather(*tasks)
    return served


async def test_one_request_waits_for_one_turn_and_not_for_anothers_sixty_four() -> None:
    served = await _order(["busy"] * 64 + ["quiet"], concurrent=4)

    assert served.index("quiet") <= 2 * 4


@given(st.lists(st.sampled_from("abc"), max_size=40), st.integers(1, 5))
def test_between_two_turns_of_a_waiting_account_every_other_waiting_account_has_one(
    requests: list[str], concurrent: int
) -> None:
    served = asyncio.run(_order(requests, concurrent))

    assert sorted(served) == sorted(requests)
    queued = served[concurrent:]
    for number, account in enumerate(queued):
        later = queued[number + 1 :]
        until_next = later[: later.index(account)] if account in later else []
        assert len(set(until_next)) == len(until_next), "another account had two turns in between"


async def test_a_cancelled_request_gives_its_turn_on() -> None:
    queue = FairQueue(1, 1, 10)

    async def one(account: str) -> str:
        async with queue.turn(account):
            await asyncio.sleep(0)
        return account

    first = asyncio.create_task(one("a"))
    waiting = [asyncio.create_task(one(account)) for account in "bcd"]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await first
    waiting[1].cancel()  # its turn may have just come

    assert await asyncio.wait_for(waiting[2], 1) == "d"
    assert await asyncio.wait_for(one("e"), 1) == "e"


async def test_an_account_with_too_many_waiting_is_refused_and_others_are_not() -> None:
    queue = FairQueue(1, 1, 2)
    async with queue.turn("a"):
        tasks = [asyncio.create_task(queue.turn("a").__aenter__()) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            await queue.turn("a").__aenter__()
        other = asyncio.create_task(queue.turn("b").__aenter__())
        await asyncio.sleep(0)
        assert not other.done()
        for task in (*tasks, other):
            task.cancel()
        await asyncio.gather(*tasks, other, return_exceptions=True)


async def test_an_account_leaves_turns_free_for_others() -> None:
    queue = FairQueue(4, 2, 10)
    busy = [asyncio.create_task(queue.turn("busy").__aenter__()) for _ in range(5)]
    await asyncio.sleep(0)

    assert sum(task.done() for task in busy) == 2
    async with asyncio.timeout(PATIENCE_S), queue.turn("quiet"), queue.turn("quiet"):
        pass
    assert sum(task.done() for task in busy) == 2
    for task in busy:
        task.cancel()
    await asyncio.gather(*busy, return_exceptions=True)


async def test_an_account_has_fewer_turns_beside_others_than_alone() -> None:
    now = 0.0
    queue = FairQueue(4, 3, 10, beside_others=1, clock=lambda: now)
    busy = [asyncio.create_task(queue.acquire("busy")) for _ in range(8)]
    await asyncio.sleep(0)
    begun = [sum(task.done() for task in busy)]

    await queue.acquire("quiet")
    for account, pause_s in (("busy", 0), ("busy", 0), ("busy", 0), ("quiet", 0.9), ("busy", 0.2), ("busy", 0)):
        queue.release(account)
        now += pause_s
        await asyncio.sleep(0)
        begun.append(sum(task.done() for task in busy))
    for task in busy:
        task.cancel()
    await asyncio.gather(*busy, return_exceptions=True)

    assert begun == [3, 3, 3, 4, 4, 5, 8], "three alone; one beside an account that was there a second ago; three again"


async def test_a_turn_that_is_paused_is_another_accounts_meanwhile() -> None:
    queue = FairQueue(1, 1, 10)
    first, second = Turn(queue), Turn(queue)
    await first.begin("a")
    waiting = asyncio.create_task(second.begin("b"))
    await asyncio.sleep(0)
    assert not waiting.done()

    async with first.paused():
        await asyncio.wait_for(waiting, 1)
        second.end()
        second.end()  # without effect
    first.end()
    async with asyncio.timeout(PATIENCE_S), queue.turn("c"):
        pass


async def test_a_request_that_is_cancelled_as_the_turn_ends_leaves_nothing_behind() -> None:
    queue = FairQueue(1, 1, 10)
    await queue.acquire("a")
    waiting = asyncio.create_task(queue.acquire("b"))
    await asyncio.sleep(0)
    waiting.cancel()
    queue.release("a")
    await asyncio.gather(waiting, return_exceptions=True)

    async with asyncio.timeout(PATIENCE_S), queue.turn("b"):
        pass


async def test_one_accounts_dry_runs_wait_for_each_other_and_not_anothers_for_them() -> None:
    queue = schema_queue()
    waiting = [asyncio.create_task(queue.acquire("busy")) for _ in range(64)]
    await asyncio.sleep(0)

    assert sum(task.done() for task in waiting) == 1
    await asyncio.wait_for(queue.acquire("quiet"), 1)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)

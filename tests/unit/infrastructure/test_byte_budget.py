"""The byte budget: what fits, for each account and in all; and the queue whose operations wait for bytes."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from services.infrastructure.byte_budget import ByteBudget
from services.infrastructure.fair_queue import FairQueue, Turn

_TAKES = st.lists(st.tuples(st.sampled_from("abcde"), st.integers(1, 12), st.booleans()), max_size=60)


def _budget() -> ByteBudget:
    return ByteBudget(per_account=10, in_all=20, reserve=6, share=2)


@given(_TAKES)
def test_what_fits_keeps_every_bound_and_leaves_the_reserve(takes: list[tuple[str, int, bool]]) -> None:
    budget, held = _budget(), dict.fromkeys("abcde", 0)
    for account, size, gives_back in takes:
        if gives_back and held[account]:
            budget.give_back(account, held[account])
            held[account] = 0
        elif budget.fits(account, size):
            budget.take(account, size)
            held[account] += size
        assert budget.held(account) == held[account] <= 10
        assert sum(held.values()) <= 20
        assert sum(held.values()) - sum(one for one in held.values() if one <= 2) <= 20 - 6


def test_accounts_that_use_all_leave_the_reserve_to_others() -> None:
    budget = _budget()
    budget.take("greedy", 10)
    budget.take("greedy too", 4)
    assert not budget.fits("greedy too", 1)
    assert budget.fits("modest", 2)
    assert not budget.fits("modest", 3)


def test_what_an_account_takes_beyond_its_limit_is_nothing_to_the_others() -> None:
    budget = _budget()
    budget.take("greedy", 60)
    assert budget.fits("modest", 2)
    assert budget.fits("other", 4)
    assert not budget.fits("greedy", 0)
    budget.give_back("greedy", 60)
    budget.take("greedy", 10)
    assert not budget.fits("other", 5)


async def test_an_operation_waits_for_its_bytes_and_nobody_elses_does() -> None:
    queue = FairQueue(100, 100, 100, budget=_budget())
    first, second, other = Turn(queue), Turn(queue), Turn(queue)
    await first.begin("a", 8)
    first.end()
    waiting = asyncio.create_task(second.begin("a", 3))
    await other.begin("b", 2)
    assert not waiting.done()
    first.give_back()
    await waiting


async def test_bytes_beyond_the_budget_hold_up_the_accounts_next_operation_until_they_are_given_back() -> None:
    queue = FairQueue(100, 100, 100, budget=_budget())
    first, second, resumed = Turn(queue), Turn(queue), Turn(queue)
    await first.begin("a", 1)
    await resumed.begin("a", 1)
    first.take(30)
    resumed.end()
    waiting = [asyncio.create_task(second.begin("a", 1)), asyncio.create_task(resumed.begin("a"))]
    await asyncio.sleep(0)
    assert not any(one.done() for one in waiting)
    first.give_back()
    await asyncio.gather(*waiting)


async def test_who_leaves_the_line_lets_the_next_one_begin_and_leaves_no_bytes() -> None:
    budget = _budget()
    queue = FairQueue(100, 100, 100, budget=budget)
    await queue.acquire("a", 8)
    large = asyncio.create_task(queue.acquire("a", 9))
    small = asyncio.create_task(queue.acquire("a", 1))
    await asyncio.sleep(0)
    large.cancel()
    await small
    assert budget.held("a") == 9
    granted = asyncio.create_task(queue.acquire("a", 2))
    await asyncio.sleep(0)
    budget.give_back("a", 9)  # grants it in the moment in which it is cancelled
    granted.cancel()
    await asyncio.gather(granted, large, return_exceptions=True)
    assert budget.held("a") == 0

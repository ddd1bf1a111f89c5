"""A shared poll: what is asked does not grow with those who wait."""

from __future__ import annotations

import asyncio

import pytest

from services.infrastructure.shared_poll import SharedPoll
from tests.patience import PATIENCE_S


class _Table:
    """Each look at it takes the next of ``answers``: what there is, or the error that the database raises."""

    def __init__(self, *answers: dict[str, int] | Exception) -> None:
        self._answers, self.asked = list(answers), list[list[str]]()

    async def find(self, keys: list[str]) -> dict[str, int]:
        self.asked.append(keys)
        await asyncio.sleep(0)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.mark.parametrize("waiting", [1, 200])
async def test_as_many_queries_for_many_who_wait_as_for_one(waiting: int) -> None:
    keys = [f"key-{number}" for number in range(waiting)]
    table = _Table({}, {}, dict.fromkeys(keys, 7))
    poll = SharedPoll(table.find, 0)

    async with asyncio.timeout(PATIENCE_S):
        found = await asyncio.gather(*(poll.wait(key) for key in keys for _ in range(2)))

    assert found == [7] * 2 * waiting
    assert table.asked == [keys] * 3


async def test_nobody_who_left_is_asked_for_and_nothing_once_nobody_waits() -> None:
    table = _Table({}, {"stays": 1})
    poll = SharedPoll(table.find, 0)
    leaves, stays = (asyncio.create_task(poll.wait(key)) for key in ("leaves", "stays"))
    while not table.asked:  # noqa: ASYNC110 -- one pass of the event loop
        await asyncio.sleep(0)
    leaves.cancel()

    async with asyncio.timeout(PATIENCE_S):
        assert await stays == 1
    for _ in range(10):
        await asyncio.sleep(0)

    assert table.asked == [["leaves", "stays"], ["stays"]]


async def test_who_waits_goes_on_waiting_while_the_database_is_away_and_learns_of_faults() -> None:
    table = _Table(OSError("away"), {"one": 1}, ValueError("wrong"))
    poll = SharedPoll(table.find, 0)

    async with asyncio.timeout(PATIENCE_S):
        assert await poll.wait("one") == 1
        with pytest.raises(ValueError, match="wrong"):
            await poll.wait("one")

"""How slots are dealt out to requests as they come in."""

from __future__ import annotations

import asyncio

from services.invoker.pace import Pace
from services.invoker.slots import Slots

PACE = Pace(calls_at_once=12, firsts_at_once=10, retries_at_once=9, calls_per_system=4)
A, B, C = ("ch", "a"), ("ch", "b"), ("ch", "c")


def test_slots_are_dealt_out_evenly_and_in_order() -> None:
    slots = Slots(PACE)
    assert slots.deal([A] * 6 + [B] * 2) == [True] * 4 + [False] * 2 + [True] * 2
    assert slots.deal([A, B, C, C, C, C]) == [False, True, True, True, False, False]
    assert (slots.taken, slots.free("first"), slots.busy[C]) == (9, 1, 2)
    assert slots.deal([B, C]) == [True, False]
    assert slots.deal([C]) == [False]


def test_each_lane_has_slots_that_the_other_never_takes() -> None:
    slots = Slots(PACE)
    for number in range(10):
        slots.take(("ch", f"s{number}"), "first")
    assert (slots.free("first"), slots.free("retry"), slots.free("test")) == (0, 2, 2)
    slots.give_back(("ch", "s0"), "first")
    assert (slots.free("first"), slots.free("retry"), len(slots.busy)) == (1, 3, 9)


async def test_room_is_waited_for_until_there_is_some_or_others_wait_too() -> None:
    slots = Slots(PACE)
    given = [key for key, gets in zip([A, B, C] * 4, slots.deal([A, B, C] * 4), strict=True) if gets]
    assert len(given) == 10
    waiting = asyncio.create_task(slots.room(2, patience_s=60))
    for key in given[:2]:
        await asyncio.sleep(0)
        assert not waiting.done()
        slots.give_back(key, "first")
    await waiting
    await slots.room(100, patience_s=0.01)
    slots.short = True
    await slots.room(100, patience_s=60)

"""The memory of command ids: a window that is at least as long as promised, restored from where it says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.decider.memory import WINDOW, CommandMemory, RememberedAnswer, memory_key

ANSWER = RememberedAnswer(b"digest", b'{"version":1,"events":[]}')


def _adopted(memory: CommandMemory, sizes: list[int]) -> list[str]:
    """Adopts a transaction of so many answers each; returns every id in order. Offsets count the answers."""
    ids: list[str] = []
    for size in sizes:
        fresh = [memory_key("acme", "ch-1", f"c{len(ids) + number}") for number in range(size)]
        memory.adopt(len(ids), dict.fromkeys(fresh, ANSWER))
        ids += fresh
    return ids


def test_it_holds_twenty_thousand() -> None:
    memory = CommandMemory()
    ids = _adopted(memory, [500] * 60)

    assert WINDOW == 20_000
    assert all(memory.get(one) is ANSWER for one in ids[-WINDOW:])
    assert memory.get(ids[0]) is None
    assert len(memory) < WINDOW + 500


@given(st.lists(st.integers(0, 7), max_size=60), st.integers(1, 20))
def test_at_least_the_window_and_not_much_more(sizes: list[int], window: int) -> None:
    memory = CommandMemory(window)
    ids = _adopted(memory, sizes)

    assert all(memory.get(one) for one in ids[-window:])
    assert len(memory) < window + max(sizes, default=0) + 1
    assert all(memory.get(one) is None for one in ids[: len(ids) - len(memory)])


@given(st.lists(st.integers(0, 7), max_size=60), st.integers(1, 20))
def test_reading_again_from_where_it_says_brings_everything_back(sizes: list[int], window: int) -> None:
    memory = CommandMemory(window)
    ids = _adopted(memory, sizes)
    restored = CommandMemory(window)
    for offset in range(memory.restorable_from, len(ids)):
        restored.adopt(offset, {ids[offset]: ANSWER})

    assert all(restored.get(one) for one in ids[-window:])


def test_a_key_is_of_account_channel_and_id() -> None:
    keys = {memory_key(account, channel, one) for account in "ab" for channel in "cd" for one in "ef"}

    assert len(keys) == 8


def test_whether_an_answer_was_yes() -> None:
    assert ANSWER.accepted
    assert not RememberedAnswer(b"digest", b'{"rejection":"ChannelUnknown"}').accepted

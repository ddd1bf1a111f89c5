"""The idempotency window: by account and time, and the same after a restore from its chunks and the outcomes' tail."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.decider import idempotency_window
from services.decider.idempotency_window import (
    WINDOW_MS,
    IdempotencyWindow,
    NewOutcome,
    Position,
    RememberedOutcome,
    idempotency_key,
)

OUTCOME = RememberedOutcome(b"digest", b'{"version":1,"events":[]}')
HOUR = 60 * 60 * 1000


class Log:
    """A window with what it writes and what could be read again."""

    def __init__(self) -> None:
        self.window = IdempotencyWindow()
        self.now = 0
        self.outcomes: list[tuple[str, str, int] | None] = []
        """Of each outcome: key, account and time; None of one that is not remembered."""
        self.chunks: dict[bytes, bytes] = {}

    def transaction(self, remembered: int, others: int = 0, account: str = "acme") -> list[str]:
        first = len(self.outcomes)
        self.outcomes += [None] * others
        outcomes: dict[str, NewOutcome] = {}
        for _ in range(remembered):
            key = idempotency_key(account, "ch-1", f"c{len(self.outcomes)}")
            outcomes[key] = NewOutcome(account, len(self.outcomes) - first, OUTCOME)
            self.outcomes.append((key, account, self.now))
        self.window.adopt(first, others + remembered, outcomes, self.now)
        self.maintain()
        return list(outcomes)

    def maintain(self) -> None:
        due = self.window.due(self.now)
        self._write(due)
        self.window.done(due)

    def _write(self, due: Mapping[bytes, bytes | None]) -> None:
        for key, value in due.items():
            if value is None:
                del self.chunks[key]
            else:
                self.chunks[key] = value

    def restored(self) -> IdempotencyWindow:
        window = IdempotencyWindow()
        window.restore_chunks(self.chunks)
        for offset in range(self.window.restorable_from, len(self.outcomes)):
            if (outcome := self.outcomes[offset]) is not None:
                window.restore_outcome(outcome[0], outcome[1], offset, outcome[2])
        return window


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency_window, "CHUNK_SIZE", 20)
    monkeypatch.setattr(idempotency_window, "CHUNK_SPAN", 100)


def test_an_id_is_remembered_for_a_day_however_many_come_after_it() -> None:
    log = Log()
    (early,) = log.transaction(1)
    for _ in range(23):
        log.now += HOUR
        log.transaction(500, account="stranger")

    assert log.window.position_of(early) == Position(None, 0)


def test_what_is_older_than_a_day_goes_with_its_chunk() -> None:
    log = Log()
    early = log.transaction(20)
    log.now += WINDOW_MS
    late = log.transaction(20)

    assert [log.window.position_of(key) for key in early] == [None] * 20
    assert [log.window.position_of(key) for key in late] == [Position(None, offset) for offset in range(20, 40)]
    assert log.window.used_by("acme") == len(log.window) == 20


@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.integers(0, 60), st.sampled_from(["acme", "other"]), st.integers(0, 9)),
        max_size=30,
    )
)
def test_a_restore_brings_back_the_same_window(steps: list[tuple[int, int, str, int]]) -> None:
    log = Log()
    for remembered, others, account, hours in steps:
        log.now += hours * HOUR
        log.transaction(remembered, others, account)
    restored = log.restored()

    keys = [outcome[0] for outcome in log.outcomes if outcome is not None]
    assert [restored.position_of(key) for key in keys] == [log.window.position_of(key) for key in keys]
    assert len(restored) == len(log.window)
    for account in ("acme", "other"):
        assert restored.used_by(account) == log.window.used_by(account)
    assert restored.restorable_from == log.window.restorable_from or restored.restorable_from <= len(log.outcomes)


def test_a_restore_reads_few_outcomes_however_many_need_not_be_remembered() -> None:
    log = Log()
    log.transaction(1)
    for _ in range(50):
        log.transaction(0, others=90)

    assert len(log.outcomes) - log.window.restorable_from < 200


def test_an_offset_that_is_another_ids_is_not_taken_away_with_an_older_chunk() -> None:
    """After a day an id may be used again: the new one stays when the old one's chunk expires."""
    log = Log()
    log.transaction(20)
    log.now += WINDOW_MS - 1
    key = idempotency_key("acme", "ch-1", "c0")
    log.window.adopt(20, 1, {key: NewOutcome("acme", 0, OUTCOME)}, log.now)
    log.now += 1
    log.maintain()

    assert log.window.position_of(key) == Position(None, 20)


def test_a_key_is_of_account_channel_and_id() -> None:
    keys = {idempotency_key(account, channel, one) for account in "ab" for channel in "cd" for one in "ef"}

    assert len(keys) == 8


def test_a_new_partition_knows_the_ids_of_its_parent_for_a_day() -> None:
    parent = Log()
    in_a_chunk = parent.transaction(20)
    pending = parent.transaction(5)
    child = Log()
    child.chunks = dict(parent.window.inheritance(3))
    child.window = child.restored()
    own = child.transaction(20, account="globex")
    grandchild = Log()
    grandchild.chunks = dict(child.window.inheritance(7))
    grandchild.window = grandchild.restored()

    for window in (child.window, child.restored(), grandchild.window):
        assert [window.position_of(key) for key in in_a_chunk + pending] == [Position(3, one) for one in range(25)]
        assert window.restorable_from == (20 if window is not grandchild.window else 0)
    assert [child.restored().position_of(key) for key in own] == [Position(None, offset) for offset in range(20)]
    assert [grandchild.window.position_of(key) for key in own] == [Position(7, offset) for offset in range(20)]
    assert (grandchild.window.used_by("acme"), grandchild.window.used_by("globex")) == (25, 20)

    for log in (child, grandchild):
        log.now += WINDOW_MS
        log.maintain()
        assert len(log.window) == 0
        assert not log.chunks
        assert log.window.used_by("acme") == 0

"""Cursors that were damaged, forged or taken from elsewhere; filters; and gaps in what a subscriber reads."""

from __future__ import annotations

import json
import zlib
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import NotCoordinatorForGroupError
from hypothesis import assume, given
from hypothesis import strategies as st

from contracts.cursor import Cursor, EventFilter, InvalidCursor, Position, PositionTracker, SequenceGap
from contracts.kafka.parent_order import ParentOrder
from contracts.kafka.subscriber import Change, Changes, Subscriber

GOLDEN = Path(__file__).parents[2] / "golden" / "events.jsonl"
CURSOR = Cursor("cluster", (Position(7, 5), None, Position(0, 0), Position(12, None)))

positions = st.none() | st.builds(Position, st.integers(0, 2**63 - 1), st.none() | st.integers(0, 2**63 - 1))


@given(st.text(st.characters(codec="utf-8"), max_size=40), st.lists(positions, max_size=50))
def test_a_cursor_comes_back_as_it_was(deployment: str, where: list[Position | None]) -> None:
    cursor = Cursor(deployment, tuple(where))
    text = str(cursor)
    assert Cursor.parse(text) == cursor
    assert text.isascii()
    assert text.isprintable()
    assert " " not in text


@given(st.integers(0, len(str(CURSOR)) - 1), st.characters(codec="utf-8"))
def test_a_damaged_cursor_is_refused(at: int, other: str) -> None:
    text = str(CURSOR)
    damaged = text[:at] + other + text[at + 1 :]
    assume(damaged != text)
    with pytest.raises(InvalidCursor):
        Cursor.parse(damaged)


@pytest.mark.parametrize("end", range(len(str(CURSOR))))
def test_a_truncated_cursor_is_refused(end: int) -> None:
    for part in (str(CURSOR)[:end], str(CURSOR)[end + 1 :], str(CURSOR) + str(CURSOR)[:end] + "_"):
        with pytest.raises(InvalidCursor):
            Cursor.parse(part)


@given(st.text(max_size=60) | st.text(max_size=60).map(lambda text: "c2." + text))
def test_garbage_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(InvalidCursor, match="not a cursor"):
        Cursor.parse(text)


@given(st.text("Az09_-.x", max_size=30), st.text("0189_-x.", max_size=60) | st.text(max_size=20))
def test_a_forged_cursor_with_a_right_checksum_is_a_cursor_or_refused(deployment: str, positions: str) -> None:
    rest = f"{deployment}.{positions}"
    with suppress(InvalidCursor):
        forged = Cursor.parse(f"c2.{zlib.crc32(rest.encode()):08x}.{rest}")
        assert Cursor.parse(str(forged)) == forged


def test_a_cursor_is_short_enough_for_every_event() -> None:
    """Of 48 partitions with millions of events each: the envelope of an event is as long."""
    assert len(str(Cursor("AdQsepCguHIJLO53GaK7pA", (Position(12_345_678, 9_876_543),) * 48))) < 900


@pytest.mark.parametrize(("deployment", "partitions"), [("another", 4), ("cluster", 5)])
def test_a_cursor_of_another_deployment_is_refused(deployment: str, partitions: int) -> None:
    with pytest.raises(InvalidCursor, match="another deployment"):
        CURSOR.require(deployment, {partitions})
    assert CURSOR.require("cluster", {4}, whole=False) is CURSOR
    with pytest.raises(InvalidCursor, match="member of a group"):
        CURSOR.require("cluster", {4})


def test_a_cursor_from_before_a_growth_begins_the_added_partitions() -> None:
    extended = CURSOR.require("cluster", {2, 4, 8}, whole=False)
    assert extended.positions == CURSOR.positions + (Position(0, 0),) * 4
    with pytest.raises(InvalidCursor, match="another deployment"):
        CURSOR.require("cluster", {2, 8}, whole=False)


def test_what_is_wanted() -> None:
    everything, intents = EventFilter.of(), EventFilter.of("acme", ["ch"], ["IntentAdded"], ["business-systems/crm"])
    assert everything.fits("any", "ch", "SmsActivated", "sms")
    assert intents.fits("acme", "ch", "IntentAdded", "business-systems/crm/intents/A")
    assert intents.fits("acme", "ch", "IntentAdded", "business-systems/crm")
    assert intents.fits("acme", "ch", "IntentAdded", "business-systems")
    assert not intents.fits("acme", "ch", "IntentAdded", "business-systems/crm-2/intents/A")
    assert not intents.fits("other", "ch", "IntentAdded", "business-systems/crm")
    assert not intents.fits("acme", "ch-2", "IntentAdded", "business-systems/crm")
    assert not intents.fits("acme", "ch", "IntentEdited", "business-systems/crm")
    with pytest.raises(ValueError, match="128"):
        EventFilter.of("no account")


def record(number: int, **changed: Any) -> Any:
    """The n-th golden event as its record, at an offset with holes before it."""
    event = json.loads(GOLDEN.read_bytes().splitlines()[number - 1]) | changed
    return SimpleNamespace(partition=0, offset=number * 2, value=json.dumps(event).encode())


def opened(position: Position) -> Changes:
    changes = Subscriber("127.0.0.1:1").changes()
    changes._tracker = PositionTracker("cluster", [position])
    return changes


def looked_at(changes: Changes, *records: Any) -> list[Change]:
    return [change for one in records if (change := changes._to_change(one)) is not None]


def test_events_come_typed_and_a_newer_type_raw() -> None:
    newer = record(2, type="FaxActivated", data={"fax": "+62"}, invented="field")
    changes = opened(Position(0, 0))
    first, second = looked_at(changes, record(1), newer)
    assert type(first.body).__name__ == "ChannelRegistered"
    assert (second.body, second.event.type, second.event.data) == (None, "FaxActivated", {"fax": "+62"})
    assert Cursor.parse(second.cursor).positions == (Position(5, 2),)


def test_what_came_before_is_not_given_again() -> None:
    assert looked_at(opened(Position(5, 2)), record(1), record(2)) == []
    assert len(looked_at(opened(Position(5, 2)), record(1), record(2), record(3))) == 1


@pytest.mark.parametrize("position", [Position(0, 0), Position(0, None)])
def test_a_missing_event_is_noticed(position: Position) -> None:
    with pytest.raises(SequenceGap, match="Event 2 of partition 0 should come next, but 3 came"):
        looked_at(opened(position), record(1), record(3))


def test_a_cursor_that_does_not_fit_the_log_is_noticed() -> None:
    with pytest.raises(SequenceGap, match="Event 9 of partition 0"):
        looked_at(opened(Position(0, 8)), record(1))


def test_a_missing_version_of_a_channel_is_noticed() -> None:
    with pytest.raises(SequenceGap, match="Event 2 of channel 'golden-1' should come next, but 3 came"):
        looked_at(opened(Position(0, 0)), record(1), record(3, partitionsequence=2))


def test_a_record_that_is_no_event_is_named() -> None:
    with pytest.raises(SequenceGap, match=r"switchboard.events/0/4 is not an event"):
        looked_at(opened(Position(0, 0)), SimpleNamespace(partition=0, offset=4, value=b"{}"))


async def test_a_change_whose_partition_went_to_another_member_does_not_count_as_done() -> None:
    """It was handed out and not done yet; noting it later would take the group's position back from who went on."""
    changes = opened(Position(0, 0))
    tp = TopicPartition("switchboard.events", 0)
    changes._consumer = SimpleNamespace(assignment=set)
    assert len(looked_at(changes, record(1))) == 1
    await changes.revoked([tp])
    assert changes._yielded is None
    assert tp not in changes._commits.waiting


class Coordinator:
    """Answers with the group's positions, but not the first time."""

    def __init__(self) -> None:
        self.asked = 0

    async def list_consumer_group_offsets(self, _: str) -> dict[TopicPartition, Any]:
        self.asked += 1
        if self.asked == 1:
            raise NotCoordinatorForGroupError
        return {TopicPartition("switchboard.events", 0): SimpleNamespace(offset=5, metadata="2")}


async def test_a_group_whose_positions_cannot_be_read_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its position, what comes of a partition would be passed over without a word."""
    monkeypatch.setattr("contracts.kafka.group_offsets._RETRY_AFTER_S", 0)
    changes, sought = opened(Position(0, 0)), []
    tp = TopicPartition("switchboard.events", 0)
    changes._tracker[0] = None
    changes._admin = Coordinator()
    changes._consumer = SimpleNamespace(
        seek=lambda tp, offset: sought.append((tp.partition, offset)),
        partitions_for_topic=lambda _: {0},
        pause=lambda *_: None,
    )
    changes._parents = ParentOrder(changes._consumer, tp.topic, {})
    await changes.assigned([tp], {tp: Position(0, 0)})
    assert (changes._admin.asked, sought) == (2, [(0, 5)])
    assert len(looked_at(changes, record(1), record(2), record(3))) == 1


async def test_a_rebalance_while_it_is_closed_finds_nothing_to_do() -> None:
    changes, tp = opened(Position(0, 0)), TopicPartition("switchboard.events", 0)
    await changes.revoked([tp])
    await changes.assigned([tp], {tp: Position(7, 7)})
    assert changes._tracker[0] == Position(0, 0)

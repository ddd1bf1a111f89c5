"""The change feed's memory: what a follower of one account reads while other accounts' events evict older ones."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from contracts import topics
from contracts.cursor import Cursor, EventFilter, InvalidCursor, Position, PositionTracker
from contracts.kafka.parent_order import ParentOrder
from services.gateway.feed.caught_up import CatchUpBatch, CaughtUp, ReadResult
from services.gateway.feed.event_buffer import CutOff, Signal
from services.gateway.feed.feed import Feed
from services.gateway.feed.follower import Follower


class Log:
    """A feed of one partition, at its beginning, and the events that are appended."""

    def __init__(self, max_events: int) -> None:
        self.feed = Feed("127.0.0.1:1", {}, max_events=max_events)
        self.feed.positions = PositionTracker("cluster", [Position(0, 0)])
        self.feed._by_partition, self.feed.buffered_from = [[]], [0]
        self._count, self._sequences = 0, Counter[str]()

    def append(self, account: str, times: int = 1, *, padding: int = 0, indent: int | None = None) -> None:
        for _ in range(times):
            self._count += 1
            self._sequences[account] += 1
            event = {
                "accountid": account,
                "subject": f"{account}-1",
                "type": "SmsActivated",
                "resource": "sms",
                "sequence": self._sequences[account],
                "partitionsequence": self._count,
                "data": {"padding": "x" * padding},
            }
            value = json.dumps(event, indent=indent).encode()
            record = SimpleNamespace(partition=0, offset=2 * self._count, value=value)
            self._take({"topic_partition": [record]})

    def _take(self, records: dict[str, list[Any]]) -> None:
        self.feed._append_records(records)


ONE = frozenset(["SmsActivated"])


@pytest.fixture
def log() -> Log:
    return Log(max_events=10)


def sequences(found: ReadResult) -> list[int]:
    return [json.loads(value)["sequence"] for value, _ in found]


async def test_an_idle_follower_gets_each_event_once_while_others_are_busy(log: Log) -> None:
    follower = Follower(log.feed, EventFilter("quiet"), None)
    log.append("quiet")
    assert sequences(follower.read()) == [1]
    log.append("busy", 35)
    log.append("quiet")
    assert not follower.is_behind, "all its own events are in memory"
    assert sequences(follower.read()) == [2]
    assert follower.read() == []
    log.append("busy", 3)
    follower.read()
    assert follower.cursor.positions == (Position(81, 40),), "its cursor advances with the others' events"


async def test_a_follower_without_events_is_not_cut_off_as_slow(log: Log) -> None:
    follower = Follower(log.feed, EventFilter("quiet"), None)
    log.append("busy", 100)
    log.append("quiet", 2)
    assert sequences(follower.read()) == [1, 2]


async def test_a_slow_follower_is_cut_off_and_others_are_not(log: Log) -> None:
    slow, brisk = Follower(log.feed, EventFilter("busy"), None), Follower(log.feed, EventFilter("busy"), None)
    seen: list[int] = []
    for _ in range(30):
        log.append("busy")
        seen += sequences(brisk.read())
    assert seen == list(range(1, 31))
    with pytest.raises(CutOff):
        slow.read()
    assert slow.cursor.positions == (Position(0, 0),), "with this cursor it gets everything from Kafka"


def sent(frames: bytes) -> list[int]:
    return [json.loads(line[6:])["sequence"] for line in frames.splitlines() if line.startswith(b"data: ")]


async def test_frames_are_built_once_for_all_followers_at_the_same_index(log: Log) -> None:
    one, other = Follower(log.feed, EventFilter("busy"), None), Follower(log.feed, EventFilter("busy"), None)
    log.append("busy", 3)
    frames = one.read_frames()
    assert sent(frames) == [1, 2, 3]
    assert other.read_frames() is frames
    assert one.read_frames() == b""
    log.append("quiet")
    assert (one.read_frames(), one.cursor) == (b"", log.feed.positions.cursor())
    late = Follower(log.feed, EventFilter("busy"), None)
    log.append("busy", 2)
    assert sent(other.read_frames()) == sent(one.read_frames()) == sent(late.read_frames()) == [4, 5]


async def test_a_follower_that_reads_nothing_has_at_most_one_batch_buffered(log: Log) -> None:
    follower, chosen = (
        Follower(log.feed, EventFilter("busy"), None),
        Follower(log.feed, EventFilter("busy", types=ONE), None),
    )
    log.append("busy", 9, padding=100_000)
    for one in (follower, chosen):
        batches = [one.read_frames() for _ in range(4)]
        assert [sent(batch) for batch in batches] == [[1, 2, 3], [4, 5, 6], [7, 8, 9], []]


async def test_a_cursor_with_a_wrong_sequence_is_refused_at_once(log: Log) -> None:
    log.append("busy", 3)
    for position in (Position(2, 1), Position(5, 1), Position(6, 9), Position(7, 2)):
        with pytest.raises(InvalidCursor, match="does not fit"):
            await Follower(log.feed, EventFilter("busy"), Cursor("cluster", (position,))).start()
    for position, missing in (
        (Position(0, 0), [1, 2, 3]),
        (Position(4, 1), [2, 3]),
        (Position(7, 3), []),
        (Position(7), []),
    ):
        follower = Follower(log.feed, EventFilter("busy"), Cursor("cluster", (position,)))
        await follower.start()
        assert sequences(follower.read()) == missing


async def test_a_wrong_sequence_ahead_of_the_feed_is_refused_once_the_feed_reaches_it(log: Log) -> None:
    """Even if the next event is another account's."""
    right, wrong = (
        Follower(log.feed, EventFilter("quiet"), Cursor("cluster", (position,)))
        for position in (Position(9, 4), Position(9, 5))
    )
    right._ahead, wrong._ahead = {0: Position(9, 4)}, {0: Position(9, 5)}  # as `start` finds
    log.append("busy", 3)
    assert right.read_frames() == wrong.read_frames() == b""
    log.append("busy", 2)
    assert right.read_frames() == b""
    with pytest.raises(InvalidCursor, match="does not fit"):
        wrong.read_frames()


async def test_an_event_with_line_breaks_is_sent_as_one_line(log: Log) -> None:
    follower = Follower(log.feed, EventFilter("busy"), None)
    log.append("busy", indent=1)
    assert sent(follower.read_frames()) == [1]


async def test_accounts_without_followers_leave_no_buffer(log: Log) -> None:
    follower = Follower(log.feed, EventFilter("followed"), None)
    for number in range(50):
        log.append(f"account-{number}")
    assert len(log.feed._buffers) < 15
    assert log.feed.follower_count("followed") == 1
    del follower
    log.append("busy", 20)
    assert set(log.feed._buffers) <= {None, "busy", *(f"account-{number}" for number in range(50))}


def batch_of(*sizes: int) -> CatchUpBatch:
    after = Cursor("cluster", (Position(9, 9),))
    return CatchUpBatch([(b"x" * size, after) for size in sizes], after)


def test_what_was_found_in_kafka_is_kept_within_a_bound() -> None:
    kept, first, second = CaughtUp(100), (EventFilter("busy"), "a"), (EventFilter("busy"), "b")
    kept.put(first, batch_of(40, 20))
    kept.put(second, batch_of(30))
    kept.put(second, batch_of(30))
    assert kept.get(first) is not None

    kept.put((EventFilter("quiet"), "a"), batch_of(30))
    assert [kept.get(first) is None, kept.get(second) is None] == [False, True]
    assert kept.get((EventFilter("stranger"), "a")) is None

    kept.put((EventFilter("large"), "a"), batch_of(200))
    kept.put((EventFilter("empty"), "a"), batch_of())
    assert not kept._batches


async def test_readers_that_begin_at_the_same_cursor_read_kafka_once(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []

    async def read_kafka(self: Follower) -> CatchUpBatch:
        reads.append(str(self.account))
        await asyncio.sleep(0)
        return batch_of(10)

    monkeypatch.setattr(Follower, "_read_kafka", read_kafka)
    beginning = Cursor("cluster", (Position(0, 0),))
    followers = [
        Follower(log.feed, EventFilter(account), beginning) for account in ("busy", "quiet") for _ in range(64)
    ]

    batches = await asyncio.gather(*(follower.read_catch_up_batch() for follower in followers))

    assert sorted(reads) == ["busy", "quiet"]
    assert [len(batch.changes) for batch in batches] == [1] * 128


class FollowedLog(Log):
    """Its feed reads the log in a task, as a gateway does. It is the consumer too: a poll returns one event."""

    def __init__(self) -> None:
        super().__init__(max_events=10)
        self._polls: asyncio.Queue[dict[str, list[Any]]] = asyncio.Queue()
        self.feed._consumer = self
        self.feed._parents = ParentOrder(self, topics.EVENTS.name, {})

    def _take(self, records: dict[str, list[Any]]) -> None:
        self._polls.put_nowait(records)

    def partitions_for_topic(self, _: str) -> set[int]:
        return {0}

    async def getmany(self, **_: Any) -> dict[str, list[Any]]:
        return await self._polls.get()


async def test_nobody_waits_for_another_accounts_many_streams() -> None:
    log = FollowedLog()
    woken: list[str] = []

    async def stream(account: str) -> None:
        with log.feed.notifying(account, signal := Signal()):
            await signal.wait()
        woken.append(account)

    async with asyncio.TaskGroup() as streams:
        for account in ["busy"] * 500 + ["neighbour"]:
            streams.create_task(stream(account))
        await asyncio.sleep(0)
        log.append("busy")
        log.append("neighbour")
        reading = asyncio.create_task(log.feed._run())
    reading.cancel()

    assert len(woken) == 501
    assert woken.index("neighbour") <= 200

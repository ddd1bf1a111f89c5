"""The memory of the change feed: what a follower of one account gets while others' events push older ones out."""

from __future__ import annotations

import json
from collections import Counter
from types import SimpleNamespace

import pytest

from contracts.changes import Cursor, CursorRefused, Place, Places, Wanted
from services.gateway.feed import CutOff, Feed
from services.gateway.follower import Follower, Found


class Log:
    """A feed of one partition that has just begun, and the events that come."""

    def __init__(self, kept: int) -> None:
        self.feed = Feed("127.0.0.1:1", {}, kept=kept)
        self.feed.places = Places("cluster", [Place(0, 0)])
        self.feed._by_partition, self.feed.floor = [[]], [0]
        self._count, self._sequences = 0, Counter[str]()

    def happen(self, account: str, times: int = 1, *, padding: int = 0, indent: int | None = None) -> None:
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
            self.feed._keep_all({"home": [record]})


ONE = frozenset(["SmsActivated"])


@pytest.fixture
def log() -> Log:
    return Log(kept=10)


def sequences(found: Found) -> list[int]:
    return [json.loads(value)["sequence"] for value, _ in found]


async def test_who_is_idle_while_others_are_busy_gets_each_event_once(log: Log) -> None:
    follower = Follower(log.feed, Wanted("quiet"), None)
    log.happen("quiet")
    assert sequences(follower.take()) == [1]
    log.happen("busy", 35)
    log.happen("quiet")
    assert not follower.behind, "what is its own is all in memory"
    assert sequences(follower.take()) == [2]
    assert follower.take() == []
    log.happen("busy", 3)
    follower.take()
    assert follower.cursor.places == (Place(81, 40),), "its cursor goes on with what others do"


async def test_who_never_had_an_event_is_not_taken_for_slow(log: Log) -> None:
    follower = Follower(log.feed, Wanted("quiet"), None)
    log.happen("busy", 100)
    log.happen("quiet", 2)
    assert sequences(follower.take()) == [1, 2]


async def test_who_is_slow_is_cut_off_and_others_are_not(log: Log) -> None:
    slow, brisk = Follower(log.feed, Wanted("busy"), None), Follower(log.feed, Wanted("busy"), None)
    seen: list[int] = []
    for _ in range(30):
        log.happen("busy")
        seen += sequences(brisk.take())
    assert seen == list(range(1, 31))
    with pytest.raises(CutOff):
        slow.take()
    assert slow.cursor.places == (Place(0, 0),), "with this cursor it gets everything from Kafka"


def sent(frames: bytes) -> list[int]:
    return [json.loads(line[6:])["sequence"] for line in frames.splitlines() if line.startswith(b"data: ")]


async def test_what_is_sent_is_made_once_for_all_who_are_at_the_same_place(log: Log) -> None:
    one, other = Follower(log.feed, Wanted("busy"), None), Follower(log.feed, Wanted("busy"), None)
    log.happen("busy", 3)
    frames = one.take_frames()
    assert sent(frames) == [1, 2, 3]
    assert other.take_frames() is frames
    assert one.take_frames() == b""
    log.happen("quiet")
    assert (one.take_frames(), one.cursor) == (b"", log.feed.places.cursor())
    late = Follower(log.feed, Wanted("busy"), None)
    log.happen("busy", 2)
    assert sent(other.take_frames()) == sent(one.take_frames()) == sent(late.take_frames()) == [4, 5]


async def test_no_more_than_a_burst_lies_in_the_buffers_of_who_takes_nothing(log: Log) -> None:
    follower, chosen = Follower(log.feed, Wanted("busy"), None), Follower(log.feed, Wanted("busy", types=ONE), None)
    log.happen("busy", 9, padding=100_000)
    for one in (follower, chosen):
        bursts = [one.take_frames() for _ in range(4)]
        assert [sent(burst) for burst in bursts] == [[1, 2, 3], [4, 5, 6], [7, 8, 9], []]


async def test_a_cursor_whose_count_does_not_fit_is_refused_at_once(log: Log) -> None:
    log.happen("busy", 3)
    for place in (Place(2, 1), Place(5, 1), Place(6, 9), Place(7, 2)):
        with pytest.raises(CursorRefused, match="does not fit"):
            await Follower(log.feed, Wanted("busy"), Cursor("cluster", (place,))).start()
    for place, missing in ((Place(0, 0), [1, 2, 3]), (Place(4, 1), [2, 3]), (Place(7, 3), []), (Place(7), [])):
        follower = Follower(log.feed, Wanted("busy"), Cursor("cluster", (place,)))
        await follower.start()
        assert sequences(follower.take()) == missing


async def test_or_found_out_as_soon_as_the_feed_gets_there(log: Log) -> None:
    """Although its next event is of another account."""
    right, wrong = (
        Follower(log.feed, Wanted("quiet"), Cursor("cluster", (place,))) for place in (Place(9, 4), Place(9, 5))
    )
    right._ahead, wrong._ahead = {0: Place(9, 4)}, {0: Place(9, 5)}  # as `start` finds
    log.happen("busy", 3)
    assert right.take_frames() == wrong.take_frames() == b""
    log.happen("busy", 2)
    assert right.take_frames() == b""
    with pytest.raises(CursorRefused, match="does not fit"):
        wrong.take_frames()


async def test_an_event_that_was_written_over_lines_is_sent_as_one(log: Log) -> None:
    follower = Follower(log.feed, Wanted("busy"), None)
    log.happen("busy", indent=1)
    assert sent(follower.take_frames()) == [1]


async def test_accounts_that_nobody_follows_leave_nothing_behind(log: Log) -> None:
    follower = Follower(log.feed, Wanted("followed"), None)
    for number in range(50):
        log.happen(f"account-{number}")
    assert len(log.feed._lanes) < 15
    assert log.feed.followers_of("followed") == 1
    del follower
    log.happen("busy", 20)
    assert set(log.feed._lanes) <= {None, "busy", *(f"account-{number}" for number in range(50))}

"""The memory of the change feed: what a follower of one account gets while others' events push older ones out."""

from __future__ import annotations

import json
from collections import Counter
from types import SimpleNamespace

import pytest

from contracts.changes import Place, Places, Wanted
from services.gateway.feed import CutOff, Feed
from services.gateway.follower import Follower, Found


class Log:
    """A feed of one partition that has just begun, and the events that come."""

    def __init__(self, kept: int) -> None:
        self.feed = Feed("127.0.0.1:1", {}, kept=kept)
        self.feed.places = Places("cluster", [Place(0, 0)])
        self.feed._by_partition, self.feed.floor = [[]], [0]
        self._count, self._sequences = 0, Counter[str]()

    def happen(self, account: str, times: int = 1) -> None:
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
            }
            record = SimpleNamespace(partition=0, offset=2 * self._count, value=json.dumps(event).encode())
            self.feed._keep_all({"home": [record]})


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


async def test_accounts_that_nobody_follows_leave_nothing_behind(log: Log) -> None:
    follower = Follower(log.feed, Wanted("followed"), None)
    for number in range(50):
        log.happen(f"account-{number}")
    assert len(log.feed._lanes) < 15
    assert log.feed.followers_of("followed") == 1
    del follower
    log.happen("busy", 20)
    assert set(log.feed._lanes) <= {None, "busy", *(f"account-{number}" for number in range(50))}

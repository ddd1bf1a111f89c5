"""A log on which events are missing, not committed, expired or newer than we are: readers say so, or go on."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from contracts import topics
from contracts.changes import Cursor, CursorRefused, GapInChanges, Place, Wanted
from contracts.subscriber import Change, Changes, Subscriber
from services.gateway.feed import CutOff, Feed
from services.gateway.follower import Follower, Found
from services.infrastructure.embedded.kafka import EmbeddedKafka
from services.infrastructure.topics import apply_topics

EVENTS = topics.EVENTS.name


class Writer:
    """Writes whatever it is told as the events of a log with one partition, numbered as they should be if not told."""

    def __init__(self, producer: Any) -> None:
        self.producer = producer
        self.count, self.sequences = 0, Counter[str]()

    async def write(self, channel: str, **told: Any) -> None:
        self.count += 1
        self.sequences[channel] += 1
        event = {
            "specversion": "1.0",
            "id": f"event-{self.count}",
            "type": "SmsActivated",
            "source": "switchboard",
            "subject": channel,
            "time": "2026-11-22T08:00:00.000Z",
            "accountid": "acme",
            "sequence": self.sequences[channel],
            "partitionsequence": self.count,
            "previoushash": "0" * 64,
            "resource": "sms",
            "causationid": f"command-{self.count}",
            "correlationid": f"command-{self.count}",
            "data": {},
        }
        await self.producer.send_and_wait(EVENTS, json.dumps(event | told).encode(), partition=0)


@asynccontextmanager
async def writer(kafka: EmbeddedKafka, **options: Any) -> AsyncIterator[Writer]:
    """On a log without events."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await admin.start()
    if EVENTS in await admin.list_topics():
        await admin.delete_topics([EVENTS])
    while EVENTS in await admin.list_topics():  # noqa: ASYNC110 -- nobody tells
        await asyncio.sleep(0.05)
    await admin.close()
    await apply_topics(kafka.bootstrap_servers, 1, {})
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, acks="all", **options) as producer:
        yield Writer(producer)


async def read(changes: Changes) -> list[Change]:
    async with changes:
        return [change async for change in changes]


async def follow(follower: Follower) -> Found:
    """What it finds next."""
    async with asyncio.timeout(10):
        while not (found := follower.take()):
            await follower.wait(1)
        return found


async def follow_on(follower: Follower) -> None:
    async with asyncio.timeout(10):
        while True:
            await follow(follower)


async def test_a_subscriber_says_which_event_is_missing(own_kafka: EmbeddedKafka) -> None:
    subscriber = Subscriber(own_kafka.bootstrap_servers)
    async with writer(own_kafka) as log:
        await log.write("ch-1")
        log.count += 1
        await log.write("ch-1")
        for wanted in ({}, {"account": "nobody"}, {"types": "IntentAdded"}):
            with pytest.raises(GapInChanges, match="Event 2 of partition 0 should come next, but 3 came"):
                await read(subscriber.changes("beginning", endless=False, **wanted))
        with pytest.raises(GapInChanges, match="Event 2 of partition 0"):
            await anext(Subscriber(own_kafka.bootstrap_servers, group="g").changes("beginning", account="nobody"))
    async with writer(own_kafka) as log:
        await log.write("ch-1")
        await log.write("ch-1", sequence=3)
        with pytest.raises(GapInChanges, match="Event 2 of channel 'ch-1' should come next, but 3 came"):
            await read(subscriber.changes("beginning", endless=False))


async def test_what_is_not_committed_is_not_there_and_a_newer_type_passes_raw(own_kafka: EmbeddedKafka) -> None:
    subscriber = Subscriber(own_kafka.bootstrap_servers)
    async with writer(own_kafka, transactional_id="writer") as log, Feed(own_kafka.bootstrap_servers, {}) as feed:
        follower = Follower(feed, Wanted("acme"), None)
        async with log.producer.transaction():
            await log.write("ch-1", type="FaxActivated", invented="field", data={"fax": "+62"})
        await log.producer.begin_transaction()
        await log.write("ch-1")
        found = await follow(follower)
        [change] = await read(subscriber.changes("beginning", endless=False))
        assert (change.body, change.event.data) == (None, {"fax": "+62"})
        assert [value for value, _ in found] == [change.value]
        await log.producer.abort_transaction()
        log.count -= 1
        log.sequences["ch-1"] -= 1
        async with log.producer.transaction():
            await log.write("ch-1")
        [later] = await read(subscriber.changes(change.cursor, endless=False))
        assert (later.event.id, later.event.sequence) == ("event-2", 2)


async def test_the_feed_cuts_everybody_off_at_a_gap_and_goes_on_behind_it(
    own_kafka: EmbeddedKafka, caplog: pytest.LogCaptureFixture
) -> None:
    async with writer(own_kafka) as log, Feed(own_kafka.bootstrap_servers, {}) as feed:
        followers = [Follower(feed, Wanted(account), None) for account in ("acme", "nobody")]
        await log.write("ch-1")
        log.count += 1
        for broken in ({}, {"partitionsequence": 3}, {"partitionsequence": "four"}):  # missing, again, and no event
            await log.write("ch-1", **broken)
            async with asyncio.timeout(10):
                for follower in followers:
                    with pytest.raises(CutOff):
                        await follow_on(follower)
            followers = [Follower(feed, Wanted(account), None) for account in ("acme", "nobody")]
            log.count += 1
            await log.write("ch-1")
            await follow(followers[0])
        assert followers[1].take() == []
        async with Feed(own_kafka.bootstrap_servers, {}) as late:  # of which all this is in the warm region
            follower = Follower(late, Wanted("acme"), None)
            await log.write("ch-1")
            await follow(follower)
        behind = Follower(feed, Wanted("acme"), feed.beginning())
        await behind.start()
        with pytest.raises(GapInChanges):
            await behind.catch_up()
    assert caplog.text.count("begins anew") == 4


async def test_a_cursor_whose_events_have_expired_is_refused(own_kafka: EmbeddedKafka) -> None:
    home = TopicPartition(EVENTS, 0)
    async with writer(own_kafka) as log:
        for _ in range(3):
            await log.write("ch-1")
        admin = AIOKafkaAdminClient(bootstrap_servers=own_kafka.bootstrap_servers)
        await admin.start()
        await admin.delete_records({home: RecordsToDelete(before_offset=2)})
        await admin.close()
        subscriber = Subscriber(own_kafka.bootstrap_servers)
        assert [one.event.sequence for one in await read(subscriber.changes("beginning", endless=False))] == [3]
        async with Feed(own_kafka.bootstrap_servers, {}, warm=0) as feed:
            expired = Cursor(feed.deployment, (Place(1, 1),))
            with pytest.raises(CursorRefused, match="goes from 2 to 3"):
                await read(subscriber.changes(str(expired), endless=False))
            follower = Follower(feed, Wanted("acme"), expired)
            await follower.start()
            with pytest.raises(CursorRefused, match="goes from 2 to 3"):
                await follower.catch_up()

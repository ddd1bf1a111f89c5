"""A log on which events are missing, not committed, expired or newer than we are: readers say so, or go on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from structlog.testing import capture_logs

from contracts.cursor import Cursor, EventFilter, InvalidCursor, Position, SequenceGap
from contracts.kafka.subscriber import Change, Changes, Subscriber
from projections import MIGRATIONS as PROJECTION_MIGRATIONS
from services.gateway.feed.caught_up import ReadResult
from services.gateway.feed.event_buffer import CutOff
from services.gateway.feed.feed import Feed
from services.gateway.feed.follower import Follower
from services.infrastructure.checkpoints import MIGRATIONS as CHECKPOINT_MIGRATIONS
from services.infrastructure.config import Settings
from services.infrastructure.embedded.kafka import EmbeddedKafka
from services.infrastructure.event_sequence import take_until_gap
from services.infrastructure.kafka_to_postgres import Consumer
from services.infrastructure.postgres import migrate, pool_of
from services.invoker import service as invoker
from services.invoker.settings_replica import event_handlers as invoker_replica
from services.message_router import service as message_router
from services.message_router import settings_replica as message_router_replica
from services.message_router.ownership import NAME as ROUTER
from services.projector.service import projections
from tests.event_writer import EVENTS, writer
from tests.patience import PATIENCE_S

MIGRATIONS = {
    "checkpoints": CHECKPOINT_MIGRATIONS,
    "projections": PROJECTION_MIGRATIONS,
    "invoker": invoker.MIGRATIONS,
    "message_router": message_router.MIGRATIONS,
}
REGISTERED: dict[str, Any] = {
    "type": "ChannelRegistered",
    "resource": "channel",
    "data": {"channel_type": "whatsapp", "name": "Shop", "enterprise_authenticated": True},
}


async def read(changes: Changes) -> list[Change]:
    async with changes:
        return [change async for change in changes]


async def follow(follower: Follower) -> ReadResult:
    """What it finds next."""
    async with asyncio.timeout(PATIENCE_S):
        while not (found := follower.read()):
            await follower.wait(1)
        return found


async def follow_on(follower: Follower) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            await follow(follower)


async def test_a_subscriber_says_which_event_is_missing(own_kafka: EmbeddedKafka) -> None:
    subscriber = Subscriber(own_kafka.bootstrap_servers)
    async with writer(own_kafka) as log:
        await log.write("ch-1")
        log.counts[0] += 1
        await log.write("ch-1")
        for wanted in ({}, {"account": "nobody"}, {"types": "IntentAdded"}):
            with pytest.raises(SequenceGap, match="Event 2 of partition 0 should come next, but 3 came"):
                await read(subscriber.changes("beginning", endless=False, **wanted))
        with pytest.raises(SequenceGap, match="Event 2 of partition 0"):
            await anext(Subscriber(own_kafka.bootstrap_servers, group="g").changes("beginning", account="nobody"))
    async with writer(own_kafka) as log:
        await log.write("ch-1")
        await log.write("ch-1", sequence=3)
        with pytest.raises(SequenceGap, match="Event 2 of channel 'ch-1' should come next, but 3 came"):
            await read(subscriber.changes("beginning", endless=False))


async def test_what_is_not_committed_is_not_there_and_a_newer_type_passes_raw(own_kafka: EmbeddedKafka) -> None:
    subscriber = Subscriber(own_kafka.bootstrap_servers)
    async with writer(own_kafka, transactional_id="writer") as log, Feed(own_kafka.bootstrap_servers, {}) as feed:
        follower = Follower(feed, EventFilter("acme"), None)
        async with log.producer.transaction():
            await log.write("ch-1", type="FaxActivated", invented="field", data={"fax": "+62"})
        await log.producer.begin_transaction()
        await log.write("ch-1")
        found = await follow(follower)
        [change] = await read(subscriber.changes("beginning", endless=False))
        assert (change.body, change.event.data) == (None, {"fax": "+62"})
        assert [value for value, _ in found] == [change.value]
        await log.producer.abort_transaction()
        log.counts[0] -= 1
        log.sequences["ch-1"] -= 1
        async with log.producer.transaction():
            await log.write("ch-1")
        [later] = await read(subscriber.changes(change.cursor, endless=False))
        assert (later.event.id, later.event.sequence) == ("event-0-2", 2)


async def test_the_feed_cuts_everybody_off_at_a_gap_and_goes_on_behind_it(
    own_kafka: EmbeddedKafka, caplog: pytest.LogCaptureFixture
) -> None:
    async with writer(own_kafka) as log, Feed(own_kafka.bootstrap_servers, {}) as feed:
        followers = [Follower(feed, EventFilter(account), None) for account in ("acme", "nobody")]
        await log.write("ch-1")
        log.counts[0] += 1
        for broken in ({}, {"partitionsequence": 3}, {"partitionsequence": "four"}):  # missing, again, and no event
            await log.write("ch-1", **broken)
            async with asyncio.timeout(PATIENCE_S):
                for follower in followers:
                    with pytest.raises(CutOff):
                        await follow_on(follower)
            followers = [Follower(feed, EventFilter(account), None) for account in ("acme", "nobody")]
            log.counts[0] += 1
            await log.write("ch-1")
            await follow(followers[0])
        assert followers[1].read() == []
        async with Feed(own_kafka.bootstrap_servers, {}) as late:  # of which all this is in the warm region
            follower = Follower(late, EventFilter("acme"), None)
            await log.write("ch-1")
            await follow(follower)
        behind = Follower(feed, EventFilter("acme"), feed.beginning())
        await behind.start()
        with pytest.raises(SequenceGap):
            await behind.catch_up()
    assert caplog.text.count("change feed restarts") == 4


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
        async with Feed(own_kafka.bootstrap_servers, {}, preload=0) as feed:
            expired = Cursor(feed.deployment, (Position(1, 1),))
            with pytest.raises(InvalidCursor, match="goes from 2 to 3"):
                await read(subscriber.changes(str(expired), endless=False))
            follower = Follower(feed, EventFilter("acme"), expired)
            await follower.start()
            with pytest.raises(InvalidCursor, match="goes from 2 to 3"):
                await follower.catch_up()


async def test_every_consumer_of_the_events_stops_at_a_gap_and_says_the_same(
    own_kafka: EmbeddedKafka, database_url: str, log_lines: list[Any]
) -> None:
    """What is before the gap is applied, nothing after it, though other partitions go on."""
    environment = {
        "SWITCHBOARD_KAFKA_BOOTSTRAP_SERVERS": own_kafka.bootstrap_servers,
        "SWITCHBOARD_DATABASE_URL": database_url,
    }
    settings = Settings.from_environment(environment)
    appliers = projections() | {
        invoker.NAME: {EVENTS: invoker_replica.apply_events},
        ROUTER: {EVENTS: message_router_replica.apply_events},
    }
    async with AsyncExitStack() as stack:
        log = await stack.enter_async_context(writer(own_kafka))
        await log.write("ch-1", **REGISTERED)
        await log.write("ch-1")
        log.counts[0] += 1
        await log.write("ch-1")
        pool = await pool_of(settings, size=len(appliers))
        stack.push_async_callback(pool.close)
        for owner, directory in MIGRATIONS.items():
            await migrate(pool, owner, directory)
        for name, own in appliers.items():
            consumer = Consumer(settings, pool, name, own)
            await consumer.start()
            stack.push_async_callback(consumer.stop)
        reason = "Event 3 of partition 0 should come next, but 4 came, at offset 2."
        expected = sorted((name, reason) for name in appliers)
        async with asyncio.timeout(60):
            while sorted({(line["consumer"], line["reason"]) for line in _stops(log_lines)}) != expected:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        await asyncio.sleep(1.5)  # it is tried again twice
        rows = await pool.fetch("SELECT consumer, next_offset, sequence FROM switchboard.checkpoints")
        assert sorted(map(tuple, rows)) == sorted((name, 2, 2) for name in appliers)
        assert len(_stops(log_lines)) == len(appliers), "each says so once"


async def test_a_record_that_is_no_event_is_a_gap(own_kafka: EmbeddedKafka) -> None:
    async with writer(own_kafka) as log:
        await log.write("ch-1")
        await log.write("ch-1", partitionsequence="two")
        consumer = AIOKafkaConsumer(EVENTS, bootstrap_servers=own_kafka.bootstrap_servers, auto_offset_reset="earliest")
        async with consumer:
            records = [await consumer.getone() for _ in range(2)]
        count, sequence, gap = take_until_gap(records, 0)
        assert (count, sequence, str(gap)) == (1, 1, f"The record at {EVENTS}/0/1 is not an event.")


def _stops(log_lines: list[Any]) -> list[Any]:
    return [line for line in log_lines if line["event"] == "stopped at a gap in the log"]


@pytest.fixture
def log_lines() -> Iterator[list[Any]]:
    with capture_logs() as lines:
        yield lines

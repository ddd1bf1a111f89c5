"""Readers of a log whose partitions grew read a channel's older events first, from the partition where it lived."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from aiokafka import TopicPartition
from pydantic_core import from_json

from services.infrastructure.checkpoints import MIGRATIONS as CHECKPOINT_MIGRATIONS
from services.infrastructure.config import Settings
from services.infrastructure.embedded.kafka import EmbeddedKafka
from services.infrastructure.event_log import NO_EVENT, KafkaEventLog
from services.infrastructure.kafka_to_postgres import Consumer
from services.infrastructure.postgres import migrate, pool_of
from tests.event_writer import EVENTS, writer
from tests.patience import PATIENCE_S

STAYS, MOVES = "channel-2", "channel-0"


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not done():  # noqa: ASYNC110 -- nobody tells
            await asyncio.sleep(0.05)


async def test_a_request_is_judged_by_the_partitions_of_its_moment(own_kafka: EmbeddedKafka) -> None:
    async with writer(own_kafka) as log:
        event_log = KafkaEventLog(own_kafka.bootstrap_servers, {})
        try:
            assert await event_log.partition_count() == 1
            await log.grow(2, finished=False)
            assert await event_log.partition_count() == 1
            await log.grow(2)
            assert await event_log.partition_count() == 2
            await log.write(MOVES, partition=1)
            assert await event_log.last_offsets({}, [0, 1]) == {0: NO_EVENT, 1: 0}
        finally:
            await event_log.close()


async def test_a_consumer_applies_a_channels_older_events_first(own_kafka: EmbeddedKafka, database_url: str) -> None:
    """A new partition waits for the parent, also where another process has that; and nobody knows before it grew."""
    environment = {
        "SWITCHBOARD_KAFKA_BOOTSTRAP_SERVERS": own_kafka.bootstrap_servers,
        "SWITCHBOARD_DATABASE_URL": database_url,
    }
    settings = Settings.from_environment(environment)
    applied: dict[str, list[int]] = defaultdict(list)
    may_go_on = asyncio.Event()

    async def apply(_connection: Any, partition: int, records: Any) -> None:
        if partition == 0:
            await may_go_on.wait()
        for record in records:
            applied[record.key.decode()].append(from_json(record.value)["sequence"])

    async with writer(own_kafka) as log:
        pool = await pool_of(settings, size=4)
        await migrate(pool, "checkpoints", CHECKPOINT_MIGRATIONS)
        consumers = [Consumer(settings, pool, "test", {EVENTS: apply}) for _ in range(2)]
        try:
            for consumer in consumers:
                await consumer.start()
            for channel in (STAYS, MOVES):
                await log.write(channel)
            await log.grow(2)
            await log.write(MOVES, partition=1)
            await log.write(STAYS)
            new = TopicPartition(EVENTS, 1)
            subscribers: list[Any] = [one._subscriber for one in consumers]
            await until(lambda: any(new in one.consumer.assignment() for one in subscribers))
            await asyncio.sleep(1)  # and its events are fetched
            assert not applied
            may_go_on.set()
            await until(lambda: sum(map(len, applied.values())) == 4)
            await log.write(MOVES, partition=1)
            await until(lambda: sum(map(len, applied.values())) == 5)
            assert applied == {STAYS: [1, 2], MOVES: [1, 2, 3]}
        finally:
            for consumer in consumers:
                await consumer.stop()
            await pool.close()

"""The outbox reaches Kafka exactly once, whatever ends its publisher and whatever else is on the topics."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from contracts import topics
from services.infrastructure.topics import apply_topics
from services.message_router import publisher
from services.message_router.outbox import OutboxRecord, add_to_outbox, lock_partitions
from services.message_router.publisher import PartitionPublisher
from tests.installation import fresh
from tests.message_router_database import RouterDatabase, router_database
from tests.servers import PARTITIONS, Servers

PARTITION = 2
DECISIONS, LETTERS = topics.MESSAGE_DECISIONS.name, topics.DEAD_LETTERS.name


class Crash(Exception):
    """Ends a publisher as a SIGKILL would: after what it did last, and before what it would have done next."""


class Publishing:
    """The servers of one test, and what is published since it began."""

    def __init__(self, servers: Servers, router: RouterDatabase) -> None:
        self.servers, self.router = servers, router

    async def add(self, *records: tuple[str, str]) -> None:
        """(topic, value) to the outbox."""
        rows = [OutboxRecord(PARTITION, topic, b"ch", value.encode(), (("h", "1"),)) for topic, value in records]
        async with self.router.pool.acquire() as connection, connection.transaction():
            await add_to_outbox(connection, await lock_partitions(connection, {PARTITION}), rows)

    async def crash_at(self, step: str) -> None:
        """Runs a publisher until it comes to the step."""
        reached = asyncio.Event()

        def on_step(name: str) -> None:
            if name == step:
                reached.set()
                raise Crash

        async with self.publisher(on_step):
            await asyncio.wait_for(reached.wait(), 30)

    @asynccontextmanager
    async def publisher(self, on_step: Callable[[str], None] = lambda _: None) -> AsyncIterator[None]:
        publisher = PartitionPublisher(self.router.pool, self.servers.bootstrap_servers, {}, PARTITION, on_step)
        try:
            yield
        finally:
            await publisher.stop()

    async def until_empty(self) -> None:
        async with self.publisher():
            await self.empty()

    async def empty(self) -> None:
        async with asyncio.timeout(30):
            while True:
                if not await self.router.pool.fetchval("SELECT count(*) FROM message_router.outbox"):
                    return
                await asyncio.sleep(0.05)

    async def counts(self, prefix: str) -> dict[str, int]:
        """How often each value that begins so is on the topics."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.servers.bootstrap_servers, isolation_level="read_committed", enable_auto_commit=False
        )
        await consumer.start()
        found: Counter[str] = Counter()
        try:
            for topic in (DECISIONS, LETTERS):
                tp = TopicPartition(topic, PARTITION)
                consumer.assign([tp])
                end = (await consumer.end_offsets([tp]))[tp]
                consumer.seek(tp, 0)
                while await consumer.position(tp) < end:
                    for record in (await consumer.getmany(tp, timeout_ms=200)).get(tp, ()):
                        found[(record.value or b"").decode(errors="replace")] += 1
        finally:
            await consumer.stop()
        return {value: count for value, count in found.items() if value.startswith(prefix)}

    async def foreign(self, topic: str, key: bytes | None, value: bytes | None) -> None:
        producer: Any = AIOKafkaProducer(bootstrap_servers=self.servers.bootstrap_servers)
        await producer.start()
        try:
            await producer.send_and_wait(topic, value, key=key, partition=PARTITION)
        finally:
            await producer.stop()


@pytest.fixture
async def publishing(shared_servers: Servers, database_url: str) -> AsyncIterator[Publishing]:
    await apply_topics(shared_servers.bootstrap_servers, PARTITIONS, {})
    async with router_database(database_url) as router:
        yield Publishing(shared_servers, router)


@pytest.mark.parametrize("step", ["fenced", "sent", "published"])
async def test_dead_letters_are_published_once_too(publishing: Publishing, step: str) -> None:
    name = fresh(step)
    await publishing.add((DECISIONS, f"{name} 1"), (LETTERS, f"{name} 2"))
    await publishing.crash_at(step)
    await publishing.until_empty()
    await publishing.add((LETTERS, f"{name} 3"))
    await publishing.crash_at(step)
    await publishing.until_empty()
    assert await publishing.counts(name) == {f"{name} {number}": 1 for number in (1, 2, 3)}


async def test_records_of_others_at_the_end_of_a_topic_confuse_nobody(publishing: Publishing) -> None:
    name = fresh("others")
    await publishing.add((DECISIONS, f"{name} 1"), (DECISIONS, f"{name} 2"))
    await publishing.crash_at("published")
    for topic in (DECISIONS, topics.USAGE.name, topics.OUTBOX_POSITIONS.name):
        await publishing.foreign(topic, b"another database", b"7")
        await publishing.foreign(topic, b"~", None)
    await publishing.until_empty()
    assert await publishing.counts(name) == {f"{name} 1": 1, f"{name} 2": 1}


async def test_a_database_that_lost_commits_loses_nothing_new(publishing: Publishing) -> None:
    """It gives the lost numbers again, for other records."""
    name = fresh("lost")
    await publishing.add(*[(DECISIONS, f"before {name}") for _ in range(5)])
    await publishing.until_empty()
    await publishing.router.pool.execute("UPDATE message_router.outbox_numbers SET number = 1")
    await publishing.add((DECISIONS, f"{name} 1"), (DECISIONS, f"{name} 2"))
    await publishing.until_empty()
    assert await publishing.counts(name) == {f"{name} 1": 1, f"{name} 2": 1}


async def test_a_sender_that_ended_without_a_word_is_replaced(
    publishing: Publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As aiokafka's may when the broker was killed: what is appended then is never answered."""
    monkeypatch.setattr(publisher, "COMMIT_TIMEOUT_S", 1.0)
    name, attempts = fresh("silent"), count()

    def end_first_sender(step: str) -> None:
        if step == "publishing" and next(attempts) == 0:
            [sender] = [task for task in asyncio.all_tasks() if "_sender_routine" in repr(task.get_coro())]
            sender.cancel()

    await publishing.add((DECISIONS, f"{name} 1"), (LETTERS, f"{name} 2"))
    async with publishing.publisher(end_first_sender):
        await publishing.empty()
    assert await publishing.counts(name) == {f"{name} 1": 1, f"{name} 2": 1}


async def test_a_flood_of_large_dead_letters_is_published_in_parts(publishing: Publishing) -> None:
    name, published = fresh("large"), list[str]()
    await publishing.add(*[(LETTERS, f"{name} {number} {'x' * 900_000}") for number in range(12)])
    async with publishing.publisher(lambda step: published.append(step) if step == "published" else None):
        await publishing.empty()
    assert len(published) >= 3
    assert sum((await publishing.counts(name)).values()) == 12

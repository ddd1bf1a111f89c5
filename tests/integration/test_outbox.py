"""What is told reaches Kafka: from the memory of who recorded it, or from the outbox by whoever finds it.

Here it is dead letters, which other tests pass by."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from contracts import topics
from contracts.partitioner import partition_of
from services.infrastructure.postgres import Pool, migrate
from services.invoker.notifications import Note
from services.invoker.outbox import Publisher, tell
from services.invoker.service import MIGRATIONS
from tests.installation import Installation, fresh
from tests.servers import PARTITIONS

LATER = "UPDATE invoker.outbox SET held_until = now() + interval '1 hour'"


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=4) as made:
        await migrate(made, "invoker", MIGRATIONS)
        yield made


@asynccontextmanager
async def publishing(publisher: Publisher) -> AsyncIterator[None]:
    running = asyncio.create_task(publisher.run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.wait([running])


async def put(pool: Pool, note: Note, *, held: bool) -> list[int]:
    async with pool.acquire() as connection, connection.transaction():
        await tell(connection, [note])
        if held:
            await connection.execute(LATER)
    return [row["id"] for row in await pool.fetch("SELECT id FROM invoker.outbox")]


async def until_empty(pool: Pool) -> None:
    async with asyncio.timeout(15):
        while await pool.fetchval("SELECT count(*) FROM invoker.outbox"):  # noqa: ASYNC110 -- nobody tells
            await asyncio.sleep(0.05)


async def published(installation: Installation, channel: str) -> list[bytes]:
    source = TopicPartition(topics.DEAD_LETTERS.name, partition_of(channel, PARTITIONS))
    consumer = AIOKafkaConsumer(bootstrap_servers=installation.bootstrap_servers, isolation_level="read_committed")
    await consumer.start()
    found: list[bytes] = []
    try:
        consumer.assign([source])
        end = (await consumer.end_offsets([source]))[source]
        consumer.seek(source, 0)
        while await consumer.position(source) < end:
            records = (await consumer.getmany(source, timeout_ms=500)).get(source, ())
            found += [record.value for record in records if record.key == channel.encode()]
    finally:
        await consumer.stop()
    return found


async def test_what_is_held_is_published_from_memory_and_by_nobody_else(installation: Installation, pool: Pool) -> None:
    channel = fresh("outbox")
    note = Note(topics.DEAD_LETTERS.name, channel.encode(), b'{"told": 1}')
    holder, other = (Publisher(pool, installation.bootstrap_servers, {}) for _ in range(2))
    rows = await put(pool, note, held=True)
    async with publishing(other):
        # What it finds beside it is published: so it has looked, and passed by what is held.
        await put(pool, Note(topics.DEAD_LETTERS.name, channel.encode(), b'{"told": 2}'), held=False)
        async with asyncio.timeout(15):
            while await pool.fetchval("SELECT count(*) FROM invoker.outbox") > 1:
                other.look()
                await asyncio.sleep(0.05)
        assert await published(installation, channel) == [b'{"told": 2}']
    async with publishing(holder):
        holder.hold(rows, [note])
        await until_empty(pool)
    assert await published(installation, channel) == [b'{"told": 2}', b'{"told": 1}']


async def test_what_a_lost_process_had_held_is_published_once_its_time_is_over(
    installation: Installation, pool: Pool
) -> None:
    channel = fresh("outbox")
    await put(pool, Note(topics.DEAD_LETTERS.name, channel.encode(), b'{"told": 1}'), held=True)
    async with publishing(Publisher(pool, installation.bootstrap_servers, {})):
        await pool.execute("UPDATE invoker.outbox SET held_until = now()")
        await until_empty(pool)
    assert await published(installation, channel) == [b'{"told": 1}']

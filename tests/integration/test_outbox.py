"""Outbox records reach Kafka: from the memory of the process that recorded them, or from the table by any process.

The records here are dead letters, which other tests ignore.
"""

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
from services.invoker.outbox.records import OutboxRecord, add_to_outbox
from services.invoker.outbox.relay import OutboxRelay
from services.invoker.service import MIGRATIONS
from tests.installation import Installation, fresh
from tests.patience import PATIENCE_S
from tests.servers import PARTITIONS

RESERVE = "UPDATE invoker.outbox SET reserved_until = now() + interval '1 hour'"


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=4) as made:
        await migrate(made, "invoker", MIGRATIONS)
        yield made


@asynccontextmanager
async def publishing(relay: OutboxRelay) -> AsyncIterator[None]:
    running = asyncio.create_task(relay.run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.wait([running])


async def put(pool: Pool, record: OutboxRecord, *, reserved: bool) -> list[int]:
    async with pool.acquire() as connection, connection.transaction():
        await add_to_outbox(connection, [record])
        if reserved:
            await connection.execute(RESERVE)
    return [row["id"] for row in await pool.fetch("SELECT id FROM invoker.outbox")]


async def until_empty(pool: Pool) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await pool.fetchval("SELECT count(*) FROM invoker.outbox"):  # noqa: ASYNC110 -- there is no event to wait for
            await asyncio.sleep(0.05)


async def published(installation: Installation, channel: str) -> list[bytes]:
    tp = TopicPartition(topics.DEAD_LETTERS.name, partition_of(channel, PARTITIONS))
    consumer = AIOKafkaConsumer(bootstrap_servers=installation.bootstrap_servers, isolation_level="read_committed")
    await consumer.start()
    found: list[bytes] = []
    try:
        consumer.assign([tp])
        end = (await consumer.end_offsets([tp]))[tp]
        consumer.seek(tp, 0)
        while await consumer.position(tp) < end:
            records = (await consumer.getmany(tp, timeout_ms=500)).get(tp, ())
            found += [record.value for record in records if record.key == channel.encode()]
    finally:
        await consumer.stop()
    return found


async def test_reserved_rows_are_published_from_memory_by_their_process_only(
    installation: Installation, pool: Pool
) -> None:
    channel = fresh("outbox")
    record = OutboxRecord(topics.DEAD_LETTERS.name, channel.encode(), b'{"told": 1}')
    owner, other = (OutboxRelay(pool, installation.bootstrap_servers, {}) for _ in range(2))
    ids = await put(pool, record, reserved=True)
    async with publishing(other):
        # It publishes the other row, so it has read the table and skipped the reserved row.
        await put(pool, OutboxRecord(topics.DEAD_LETTERS.name, channel.encode(), b'{"told": 2}'), reserved=False)
        async with asyncio.timeout(PATIENCE_S):
            while await pool.fetchval("SELECT count(*) FROM invoker.outbox") > 1:
                other.notify()
                await asyncio.sleep(0.05)
        assert await published(installation, channel) == [b'{"told": 2}']
    async with publishing(owner):
        owner.publish_reserved(ids, [record])
        await until_empty(pool)
    assert await published(installation, channel) == [b'{"told": 2}', b'{"told": 1}']


async def test_rows_reserved_by_a_lost_process_are_published_later(installation: Installation, pool: Pool) -> None:
    channel = fresh("outbox")
    await put(pool, OutboxRecord(topics.DEAD_LETTERS.name, channel.encode(), b'{"told": 1}'), reserved=True)
    async with publishing(OutboxRelay(pool, installation.bootstrap_servers, {})):
        await pool.execute("UPDATE invoker.outbox SET reserved_until = now()")
        await until_empty(pool)
    assert await published(installation, channel) == [b'{"told": 1}']

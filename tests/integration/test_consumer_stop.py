"""A consumer stops, whatever it was just assigned."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from contracts import topics
from services.infrastructure.topics import apply_topics
from tests.patience import PATIENCE_S
from tests.servers import PARTITIONS, Servers


@pytest.mark.parametrize("turns", range(8))
async def test_a_consumer_that_was_assigned_something_else_just_before(shared_servers: Servers, turns: int) -> None:
    """aiokafka's fetcher has taken the cancellation for that of the fetch which it cancels itself, and gone on."""
    await apply_topics(shared_servers.bootstrap_servers, PARTITIONS, {})
    consumer = AIOKafkaConsumer(bootstrap_servers=shared_servers.bootstrap_servers)
    await consumer.start()
    consumer.assign([TopicPartition(topics.EVENTS.name, 0)])
    await consumer.seek_to_end()
    await consumer.getmany(timeout_ms=50)
    consumer.assign([TopicPartition(topics.EVENTS.name, 1)])
    for _ in range(turns):
        await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE_S):
        await consumer.stop()

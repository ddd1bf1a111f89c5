"""The access log as its topic has it."""

from __future__ import annotations

from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from contracts import topics
from contracts.partitioner import partition_of
from tests.servers import PARTITIONS


async def published_records(bootstrap_servers: str, account: str) -> list[Any]:
    """The records of an account's key, in their order."""
    tp = TopicPartition(topics.ACCESS_LOG.name, partition_of(account, PARTITIONS))
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers, isolation_level="read_committed", enable_auto_commit=False
    )
    await consumer.start()
    found: list[Any] = []
    try:
        consumer.assign([tp])
        end = (await consumer.end_offsets([tp]))[tp]
        consumer.seek(tp, 0)
        while await consumer.position(tp) < end:
            found += (await consumer.getmany(tp, timeout_ms=200)).get(tp, ())
    finally:
        await consumer.stop()
    return [record for record in found if record.key == account.encode()]

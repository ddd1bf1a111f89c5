"""Reads how the number of partitions grew."""

from __future__ import annotations

from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from pydantic import ValidationError

from .. import topics
from ..partition_growth import PartitionGrowth, Partitions
from .client_shutdown import close_client
from .log import log

_SOURCE = TopicPartition(topics.PARTITION_GROWTH.name, 0)


async def read_partitions(**options: Any) -> Partitions:
    """Reads `switchboard.partition-growth` to its end; no growth where there is no such topic. ``options`` are
    aiokafka's. Raises KafkaError."""
    consumer = AIOKafkaConsumer(isolation_level="read_committed", enable_auto_commit=False, **options)
    try:
        await consumer.start()
        return await partitions_by(consumer)
    finally:
        await close_client(consumer)


async def partitions_by(consumer: AIOKafkaConsumer) -> Partitions:
    """As `read_partitions`, by a started consumer that is assigned nothing yet; assigns it the topic."""
    if _SOURCE.topic not in await consumer.topics():
        return Partitions()
    consumer.assign([_SOURCE])
    # The topic is small: it is compacted, and few installations have grown at all.
    first, end = await consumer.beginning_offsets([_SOURCE]), await consumer.end_offsets([_SOURCE])
    consumer.seek(_SOURCE, first[_SOURCE])
    growths: dict[bytes, PartitionGrowth] = {}
    while await consumer.position(_SOURCE) < end[_SOURCE]:
        for records in (await consumer.getmany(timeout_ms=200)).values():
            for record in records:
                try:
                    growths[record.key] = PartitionGrowth.model_validate_json(record.value or b"")
                except ValidationError:
                    log.warning("the record at %s/0/%s is no growth", record.topic, record.offset)
    return Partitions(growths.values())

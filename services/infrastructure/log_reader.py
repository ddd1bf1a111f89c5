"""Reads a partition of a topic from Kafka up to its present end."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

_WAIT_MS = 20
"""Nothing else is written during a restore. Every topic ends in the fence's aborted records, which a reader does not
see: aiokafka's defaults would cost one more second per topic, and delay the next by half a second."""


@asynccontextmanager
async def log_reader(bootstrap_servers: str, security: dict[str, Any]) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer for `read_committed`."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=16 * 1024 * 1024,
        fetch_max_wait_ms=_WAIT_MS,
        **security,
    )
    try:
        await consumer.start()
        yield consumer
    finally:
        await consumer.stop()


async def read_committed(
    consumer: AIOKafkaConsumer,
    topic: str,
    partition: int,
    start: int = 0,
    at_once: int | None = None,
    end: int = sys.maxsize,
) -> AsyncIterator[Sequence[ConsumerRecord]]:
    """Yields every committed record from ``start`` to ``end`` or the partition's present end, at most ``at_once`` at a
    time."""
    tp = TopicPartition(topic, partition)
    consumer.assign([tp])
    first = (await consumer.beginning_offsets([tp]))[tp]
    end = min(end, (await consumer.end_offsets([tp]))[tp])
    consumer.seek(tp, max(first, start))
    while await consumer.position(tp) < end:
        fetched = await consumer.getmany(tp, timeout_ms=_WAIT_MS, max_records=at_once)
        if records := [record for record in fetched.get(tp, ()) if record.offset < end]:
            yield records

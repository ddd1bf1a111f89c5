"""What no read model can do without: the events read from Kafka, and rows copied into PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from contracts import topics
from tests.bench.surroundings import Surroundings

Ends = dict[TopicPartition, int]


async def ends_of_events(place: Surroundings) -> Ends:
    consumer, partitions = await _reader(place)
    try:
        ends: Ends = await consumer.end_offsets(partitions)
        return ends
    finally:
        await consumer.stop()


async def consume(place: Surroundings, begin: Ends, ends: Ends) -> tuple[int, float]:
    """How many events lie between, and how many a second a bare consumer reads, which keeps their values."""
    consumer, partitions = await _reader(place)
    values: list[bytes] = []
    began = time.perf_counter()
    try:
        for partition in partitions:
            consumer.seek(partition, begin[partition])
        for partition in partitions:
            while await consumer.position(partition) < ends[partition]:
                for records in (await consumer.getmany(timeout_ms=200, max_records=2_000)).values():
                    values += [record.value for record in records]
        return len(values), len(values) / (time.perf_counter() - began)
    finally:
        await consumer.stop()


async def copy(database: Any, like: str, rows: Sequence[Any]) -> float:
    """Seconds that COPY takes for the rows, into an empty table with the keys and indexes of the one named."""
    if not rows:
        return 0.0
    await database.execute(f"CREATE TABLE bare_copy (LIKE {like} INCLUDING ALL)")
    began = time.perf_counter()
    await database.copy_records_to_table("bare_copy", records=rows, columns=list(rows[0].keys()))
    seconds = time.perf_counter() - began
    await database.execute("DROP TABLE bare_copy")
    return seconds


async def _reader(place: Surroundings) -> tuple[Any, list[TopicPartition]]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=place.bootstrap_servers,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=4 * 1024 * 1024,
    )
    await consumer.start()
    partitions = [TopicPartition(topics.EVENTS.name, partition) for partition in range(place.partitions)]
    consumer.assign(partitions)
    return consumer, partitions

"""The limits of a read model: reading the events from Kafka, and copying its rows into PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from contracts import topics
from tests.bench.report import Result, ratio_of, rounded_median
from tests.bench.testbed import Testbed

Ends = dict[TopicPartition, int]


class Rates:
    """Events per second of each turn: ours, of a bare consumer, and of a bare COPY."""

    def __init__(self) -> None:
        self._rates: dict[str, list[float]] = {"ours": [], "consume": [], "COPY": []}

    def add(self, testbed: Testbed, turn: int, ours: float, consumed: float, copied: float) -> None:
        """Adds a turn, except turn 0, which warms up."""
        if not turn:
            return
        for name, rate in (("ours", ours), ("consume", consumed), ("COPY", copied)):
            self._rates[name].append(rate)
        testbed.log(f"turn {turn}: " + ", ".join(f"{name} {rates[-1]:,.0f}/s" for name, rates in self._rates.items()))

    def result(self, name: str, **details: Any) -> Result:
        """Ours compared with the slower of the two bare rates."""
        medians = {kind: rounded_median(rates) for kind, rates in self._rates.items()}
        slower = min("consume", "COPY", key=lambda kind: medians[kind])
        return Result(
            name,
            "events/s",
            ours=medians["ours"],
            limit=medians[slower],
            limit_is=f"bare {slower}, the slower of consume (the same events) and COPY (the same rows)",
            ratio=ratio_of(self._rates["ours"], self._rates[slower]),
            details=details | {"bare consume": medians["consume"], "bare COPY": medians["COPY"]},
        )


async def ends_of_events(testbed: Testbed) -> Ends:
    consumer, partitions = await _reader(testbed)
    try:
        ends: Ends = await consumer.end_offsets(partitions)
        return ends
    finally:
        await consumer.stop()


async def consume(testbed: Testbed, begin: Ends, ends: Ends) -> tuple[int, float]:
    """The number of events in the range, and the rate at which a bare consumer reads and stores their values."""
    consumer, partitions = await _reader(testbed)
    values: list[bytes] = []
    started = time.perf_counter()
    try:
        for partition in partitions:
            consumer.seek(partition, begin[partition])
        for partition in partitions:
            while await consumer.position(partition) < ends[partition]:
                for records in (await consumer.getmany(timeout_ms=200, max_records=2_000)).values():
                    values += [record.value for record in records]
        return len(values), len(values) / (time.perf_counter() - started)
    finally:
        await consumer.stop()


async def copy(database: Any, like: str, rows: Sequence[Any]) -> float:
    """Seconds that COPY takes for the rows, into an empty table with the keys and indexes of the one named."""
    if not rows:
        return 0.0
    await database.execute(f"CREATE TABLE bare_copy (LIKE {like} INCLUDING ALL)")
    started = time.perf_counter()
    await database.copy_records_to_table("bare_copy", records=rows, columns=list(rows[0].keys()))
    seconds = time.perf_counter() - started
    await database.execute("DROP TABLE bare_copy")
    return seconds


async def _reader(testbed: Testbed) -> tuple[Any, list[TopicPartition]]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=testbed.bootstrap_servers,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=topics.FETCH_BYTES_PER_PARTITION,
    )
    await consumer.start()
    partitions = [TopicPartition(topics.EVENTS.name, partition) for partition in range(testbed.partitions)]
    consumer.assign(partitions)
    return consumer, partitions

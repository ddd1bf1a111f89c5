"""The real topics, read whole: what the checker judges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.record.memory_records import MemoryRecords

from contracts import topics

READ = (topics.COMMANDS, topics.EVENTS, topics.OUTCOMES, topics.CHANNEL_STATE, topics.SIGNATURES, topics.DEAD_LETTERS)


class Place(NamedTuple):
    """Where a record is; printed, it names it."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class LogRecord:
    place: Place
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]


class Writer(NamedTuple):
    """Who wrote a batch: one owner is one epoch of one producer id."""

    producer_id: int
    epoch: int


@dataclass(slots=True)
class Log:
    """``records`` by topic and partition, committed ones alone, in order; ``writers`` from the broker's own files."""

    partitions: int
    records: dict[tuple[str, int], list[LogRecord]] = field(default_factory=dict)
    writers: dict[tuple[str, int], list[tuple[int, Writer]]] = field(default_factory=dict)
    """By topic and partition: (base offset, writer) of each batch with data, in order."""

    def of(self, topic: topics.Topic, partition: int) -> Sequence[LogRecord]:
        return self.records.get((topic.name, partition), [])

    def compacted(self, topic: topics.Topic, partition: int) -> dict[bytes, bytes]:
        """The last value of each key; what ends in a tombstone is not there."""
        table: dict[bytes, bytes] = {}
        for record in self.of(topic, partition):
            key = record.key or b""
            if record.value is None:
                table.pop(key, None)
            else:
                table[key] = record.value
        return table


async def read_log(bootstrap_servers: str, partitions: int, files: Path | None = None) -> Log:
    """Reads every committed record; ``files`` is the broker's log directory, where it is ours."""
    log = Log(partitions)
    sources = [TopicPartition(topic.name, partition) for topic in READ for partition in range(partitions)]
    async with AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=8 * 1024 * 1024,
        fetch_max_wait_ms=50,
    ) as consumer:
        consumer.assign(sources)
        ends = await consumer.end_offsets(sources)
        behind = {source for source in sources if ends[source] > 0}
        while behind:
            for source, records in (await consumer.getmany(timeout_ms=200)).items():
                kept = log.records.setdefault((source.topic, source.partition), [])
                kept += [_record(record) for record in records]
            behind = {source for source in behind if await consumer.position(source) < ends[source]}
    if files is not None:
        log.writers = {(source.topic, source.partition): _writers(files, source) for source in sources}
    return log


def _record(record: Any) -> LogRecord:
    place = Place(record.topic, record.partition, record.offset)
    return LogRecord(place, record.key, record.value, dict(record.headers))


def _writers(files: Path, source: TopicPartition) -> list[tuple[int, Writer]]:
    found = []
    for segment in sorted((files / f"{source.topic}-{source.partition}").glob("*.log")):
        batches = MemoryRecords(segment.read_bytes())
        while batches.has_next():
            batch = batches.next_batch()
            if batch.is_transactional and not batch.is_control_batch:
                found.append((batch.base_offset, Writer(batch.producer_id, batch.producer_epoch)))
    return found

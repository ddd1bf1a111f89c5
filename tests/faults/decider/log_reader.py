"""Reads whole topics, for the checker."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.record.memory_records import MemoryRecords

from contracts import topics

TOPICS = (topics.COMMANDS, topics.EVENTS, topics.OUTCOMES, topics.CHANNEL_STATE, topics.SIGNATURES, topics.DEAD_LETTERS)


class LogPosition(NamedTuple):
    """Topic, partition and offset of a record."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class LogRecord:
    position: LogPosition
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]


class Writer(NamedTuple):
    """The producer of a batch: one owner is one epoch of one producer id."""

    producer_id: int
    epoch: int


@dataclass(slots=True)
class Log:
    """``records`` are the committed ones, in order; ``writers`` come from the broker's own files."""

    partitions: int
    records: dict[tuple[str, int], list[LogRecord]] = field(default_factory=dict)
    writers: dict[tuple[str, int], list[tuple[int, Writer]]] = field(default_factory=dict)
    """(topic, partition) -> (base offset, writer) of each batch with data, in order."""

    def of(self, topic: topics.Topic, partition: int) -> Sequence[LogRecord]:
        return self.records.get((topic.name, partition), [])

    def compacted(self, topic: topics.Topic, partition: int) -> dict[bytes, bytes]:
        """The last value of each key, without keys that end in a tombstone."""
        table: dict[bytes, bytes] = {}
        for record in self.of(topic, partition):
            key = record.key or b""
            if record.value is None:
                table.pop(key, None)
            else:
                table[key] = record.value
        return table


async def read_log(
    bootstrap_servers: str, partitions: int, writers: Callable[[TopicPartition], list[tuple[int, Writer]]] | None = None
) -> Log:
    """Reads every committed record; ``writers`` knows who wrote a partition, from the files of an embedded broker."""
    log = Log(partitions)
    topic_partitions = [TopicPartition(topic.name, partition) for topic in TOPICS for partition in range(partitions)]
    async with AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=8 * 1024 * 1024,
        fetch_max_wait_ms=50,
    ) as consumer:
        consumer.assign(topic_partitions)
        ends = await consumer.end_offsets(topic_partitions)
        unfinished = {tp for tp in topic_partitions if ends[tp] > 0}
        while unfinished:
            for tp, fetched in (await consumer.getmany(timeout_ms=200)).items():
                records = log.records.setdefault((tp.topic, tp.partition), [])
                records += [_record(record) for record in fetched]
            unfinished = {tp for tp in unfinished if await consumer.position(tp) < ends[tp]}
    if writers is not None:
        log.writers = {(tp.topic, tp.partition): writers(tp) for tp in topic_partitions}
    return log


def _record(record: Any) -> LogRecord:
    position = LogPosition(record.topic, record.partition, record.offset)
    return LogRecord(position, record.key, record.value, dict(record.headers))


def batches_of(files: Path, tp: TopicPartition) -> Iterator[Any]:
    """The batches of the partition in a broker's log directory, control batches too."""
    for segment in sorted((files / f"{tp.topic}-{tp.partition}").glob("*.log")):
        batches = MemoryRecords(segment.read_bytes())
        while batches.has_next():
            yield batches.next_batch()


def writers_of(files: Path, tp: TopicPartition) -> list[tuple[int, Writer]]:
    return [
        (batch.base_offset, Writer(batch.producer_id, batch.producer_epoch))
        for batch in batches_of(files, tp)
        if batch.is_transactional and not batch.is_control_batch
    ]

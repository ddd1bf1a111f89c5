"""Reading the log from the broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import CorruptRecordException, KafkaError, RecordTooLargeError, UnsupportedCodecError

from contracts import topics
from contracts.kafka.partition_growth import read_partitions
from contracts.partition_growth import Partitions
from services.audit.log.errors import AuditError, DamagedLog
from services.audit.log.merge import merge
from services.audit.log.source import LogPosition, LogRecord, OffsetRange, Progress, no_progress
from services.infrastructure.config import SettingsError

FETCH_BYTES = 1024 * 1024
"""So much of each partition that is being read is held in memory; a larger record comes alone."""

LONGEST_SILENCE_S = 30.0
"""So long without a record of what must be there, and the reading is given up."""

_DAMAGE = (CorruptRecordException, RecordTooLargeError, UnsupportedCodecError)


class KafkaLog:
    """The live log; an async context manager. One reading at a time. Joins no group and commits nothing."""

    def __init__(self, bootstrap_servers: str, security: Mapping[str, Any]) -> None:
        self.partitions = 0
        self.growth = Partitions()
        self._bootstrap_servers, self._security = bootstrap_servers, security
        self._consumer: Any = None
        self._unchecked: Any = None
        self._topics: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap_servers, **self._security)
        await admin.start()
        try:
            self._topics = {one["topic"]: len(one["partitions"]) for one in await admin.describe_topics()}
        finally:
            await admin.close()
        if topics.PARTITION_GROWTH.name in self._topics:
            self.growth = await read_partitions(bootstrap_servers=self._bootstrap_servers, **self._security)
        self.partitions = self.growth.count(self._topics.get(topics.EVENTS.name, 0))
        self._consumer = self._made(check_crcs=True)
        await self._consumer.start()
        # aiokafka's `stop` fails with CancelledError while its background tasks have not had their first turn.
        await asyncio.sleep(0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for consumer in (self._consumer, self._unchecked):
            if consumer is not None:
                await consumer.stop()

    def _made(self, *, check_crcs: bool) -> Any:
        return AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap_servers,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=FETCH_BYTES,
            fetch_max_wait_ms=100,
            check_crcs=check_crcs,
            **self._security,
        )

    async def offset_ranges(self, *names: str) -> dict[TopicPartition, OffsetRange]:
        for name in names:
            if name not in self._topics:
                raise SettingsError(f"The broker has no topic {name}; `switchboard topics apply` makes the topics.")
        partitions = [TopicPartition(name, number) for name in names for number in range(self._topics[name])]
        # For a read_committed consumer the end is the last stable offset: nothing before it is still undecided.
        first, end = await self._consumer.beginning_offsets(partitions), await self._consumer.end_offsets(partitions)
        return {source: OffsetRange(first[source], end[source]) for source in partitions}

    def existing(self, names: Iterable[str]) -> list[str]:
        """The topics among these that the broker has."""
        return [name for name in names if name in self._topics]

    async def reaches(self, source: TopicPartition, end: int) -> None:
        """Returns when the partition has that end for readers: a request to end a transaction is answered before its
        markers are written. Raises `AuditError` where that takes too long."""
        given_up = time.monotonic() + LONGEST_SILENCE_S
        while (found := (await self._consumer.end_offsets([source]))[source]) < end:
            if time.monotonic() > given_up:
                raise AuditError(f"The broker has ended no transaction at {source.topic}/{source.partition}/{found}.")
            await asyncio.sleep(0.001)

    async def read(
        self, source: TopicPartition, offsets: OffsetRange, progress: Progress = no_progress, *, unchecked: bool = False
    ) -> AsyncIterator[Sequence[LogRecord]]:
        consumer = self._consumer
        if unchecked:
            if self._unchecked is None:
                self._unchecked = self._made(check_crcs=False)
                await self._unchecked.start()
            consumer = self._unchecked
        _assign(consumer, {source: offsets})
        async for batch in _batches(consumer, source, offsets, progress):
            yield batch

    async def merged(
        self, ranges: Mapping[TopicPartition, OffsetRange], progress: Progress = no_progress
    ) -> AsyncIterator[LogRecord]:
        _assign(self._consumer, ranges)
        readings = {source: _batches(self._consumer, source, offsets, progress) for source, offsets in ranges.items()}
        async for record in merge(readings, self.growth):
            yield record


def _assign(consumer: Any, ranges: Mapping[TopicPartition, OffsetRange]) -> None:
    consumer.assign(list(ranges))
    for source, offsets in ranges.items():
        consumer.seek(source, offsets.first)


async def _batches(
    consumer: Any, source: TopicPartition, offsets: OffsetRange, progress: Progress
) -> AsyncIterator[Sequence[LogRecord]]:
    at, moved = offsets.first, time.monotonic()
    damaged = False
    while at < offsets.end:
        try:
            records = (await consumer.getmany(source, timeout_ms=200, max_records=1 if damaged else None)).get(
                source, []
            )
        except Exception as error:
            if not _is_damage(error):
                raise
            if damaged:
                raise DamagedLog(LogPosition(source.topic, source.partition, at)) from None
            # aiokafka gives nothing of a damaged fetch and does not say where it is: again, record by record.
            damaged = True
            consumer.seek(source, at)
            continue
        # The next fetch goes out now, and its answer is there when this batch is done with.
        await asyncio.sleep(0)
        # Markers and aborted records have offsets too, so the position says more than the last record.
        position = min(await consumer.position(source), offsets.end)
        if position > at:
            moved = time.monotonic()
        elif time.monotonic() - moved > LONGEST_SILENCE_S:
            raise AuditError(
                f"The broker has given nothing from {source.topic}/{source.partition}/{at} on for "
                f"{LONGEST_SILENCE_S:.0f} s: it is away, or its log cannot be read there."
            )
        if records and records[-1].offset >= offsets.end:
            records = [record for record in records if record.offset < offsets.end]
        progress(position - at)
        at = position
        if records:
            yield records
            moved = time.monotonic()  # what was done with them may have taken long


def _is_damage(error: Exception) -> bool:
    """A wrong checksum, lengths that lead nowhere, or any error of a decoder."""
    return isinstance(error, _DAMAGE) or not isinstance(error, KafkaError)

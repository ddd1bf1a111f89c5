"""The ends of the log of events: a pending request is refused only once all events before them are applied."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import UnknownTopicOrPartitionError

from contracts import topics
from contracts.kafka.aiokafka_internals import network_client
from contracts.kafka.partition_growth import read_partitions
from contracts.partition_growth import Partitions
from contracts.partitioner import partition_of
from services.infrastructure.log_end import last_record

NO_EVENT = -1
"""The last offset where there is no event."""


class LogEnd(NamedTuple):
    """Once the event at the offset is applied, so are all earlier ones of the channel; `NO_EVENT` where all are."""

    partition: int
    offset: int


class EventLog(Protocol):
    async def partition_count(self) -> int: ...

    async def lineage(self, channels: Collection[str]) -> dict[str, list[int]]:
        """By channel: the partition where it lives, and those where it lived before, the latest first."""
        ...

    async def families(self, partitions: Collection[int]) -> dict[int, list[int]]:
        """By original partition: itself, and those that were added and where channels of it may live now."""
        ...

    async def last_offsets(self, applied: Mapping[int, int], partitions: Collection[int]) -> dict[int, int]:
        """The offset of the last event now, by partition.

        `NO_EVENT` where none is at or after ``applied``, the next offset to apply by partition.
        """
        ...


async def log_ends(log: EventLog, applied: Mapping[int, int], channels: Collection[str]) -> dict[str, LogEnd]:
    """How far the log must be applied until all is known that happened to each channel. Raises KafkaError."""
    lineages = await log.lineage(channels)
    offsets = await log.last_offsets(applied, {one for lineage in lineages.values() for one in lineage})
    return {channel: _log_end(lineage, applied, offsets) for channel, lineage in lineages.items()}


def _log_end(lineage: list[int], applied: Mapping[int, int], offsets: Mapping[int, int]) -> LogEnd:
    for partition in lineage:
        # What is applied of a partition is applied after the partitions before it; where nothing is, they decide.
        if offsets[partition] != NO_EVENT or applied.get(partition, 0):
            return LogEnd(partition, offsets[partition])
    return LogEnd(lineage[-1], NO_EVENT)


class KafkaEventLog:
    """Connects when it is first used; close it at the end. Several tasks may ask at once."""

    def __init__(self, bootstrap_servers: str, security: dict[str, Any]) -> None:
        self._connection: dict[str, Any] = {"bootstrap_servers": bootstrap_servers, **security}
        self._existing = self._partition_count = 0
        self._growth = Partitions()
        self._uncommitted: Any = None
        self._committed: Any = None
        self._known: dict[int, tuple[int, int, int]] = {}
        """By partition: between which offsets the last event was looked for, and its offset. Nothing comes in between,
        so it is not looked for again until the log grows."""
        self._asking = asyncio.Lock()
        """A consumer reads one place at a time."""

    async def _connect(self) -> None:
        if self._uncommitted is None:
            # Ends include events whose transaction is not committed: their command's outcome may be visible already.
            # Before another partition is read, the wait for more of the one before must end.
            options = {"enable_auto_commit": False, "fetch_max_wait_ms": 100, **self._connection}
            uncommitted = AIOKafkaConsumer(isolation_level="read_uncommitted", **options)
            committed = AIOKafkaConsumer(isolation_level="read_committed", **options)
            try:
                await uncommitted.start()
                await committed.start()
                anything = TopicPartition(topics.EVENTS.name, 0)
                committed.assign([anything])  # so that it knows the topic's number of partitions
                committed.pause(anything)
            except BaseException:
                await uncommitted.stop()
                await committed.stop()
                raise
            self._uncommitted, self._committed = uncommitted, committed

    async def close(self) -> None:
        for consumer in (self._uncommitted, self._committed):
            if consumer is not None:
                await consumer.stop()
        self._uncommitted = self._committed = None

    async def partition_count(self) -> int:
        """How many partitions have channels, of this moment: the caller may go by it until it reads a later event."""
        async with self._asking:
            await self._connect()
            # A request that came after an event on a new partition must not be judged by the older number.
            await network_client(self._committed).force_metadata_update()
            existing = len(self._committed.partitions_for_topic(topics.EVENTS.name) or ())
            if not existing:
                raise UnknownTopicOrPartitionError
            if existing != self._existing:
                self._growth = await read_partitions(**self._connection)
                self._partition_count = self._growth.count(existing)
                self._existing = existing if self._growth.unfinished is None else 0
            return self._partition_count

    async def lineage(self, channels: Collection[str]) -> dict[str, list[int]]:
        count = await self.partition_count()
        homes = {channel: partition_of(channel, count) for channel in channels}
        return {
            channel: [home, *(one.partition for one in self._growth.ancestors(topics.EVENTS.name, home))]
            for channel, home in homes.items()
        }

    async def families(self, partitions: Collection[int]) -> dict[int, list[int]]:
        count = await self.partition_count()
        at_first = self._growth.count_at_first(count)
        return {partition: list(range(partition, count, at_first)) for partition in partitions}

    async def last_offsets(self, applied: Mapping[int, int], partitions: Collection[int]) -> dict[int, int]:
        async with self._asking:
            return await self._last_offsets(applied, partitions)

    async def _last_offsets(self, applied: Mapping[int, int], partitions: Collection[int]) -> dict[int, int]:
        await self._connect()
        tps = [TopicPartition(topics.EVENTS.name, partition) for partition in partitions]
        ends = await self._uncommitted.end_offsets(tps)
        offsets: dict[int, int] = {}
        for tp in tps:
            offsets[tp.partition] = await self._last_offset(tp, applied.get(tp.partition, 0), ends[tp])
        return offsets

    async def _last_offset(self, tp: TopicPartition, start: int, end: int) -> int:
        known_from, known_end, last = self._known.get(tp.partition, (0, -1, NO_EVENT))
        if end != known_end or start < known_from:
            record = await last_record(self._committed, tp, start, end)
            last = NO_EVENT if record is None else record.offset
            self._known[tp.partition] = start, end, last
        return last if last >= start else NO_EVENT

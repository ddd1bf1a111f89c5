"""The log that is audited: committed records only, each partition from its beginning to its end as it was when the
reading started, in memory that does not grow with the log. `kafka_log` reads the broker's, `copied_log` a copy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

from aiokafka import TopicPartition
from pydantic import Field

from contracts.partition_growth import Partitions
from contracts.partitioner import partition_of
from services.audit.log.errors import DamagedLog
from services.audit.log.homes import Homes

WAITS_S = (0.2, 0.5, 1.0, 3.0)
"""The pauses before a partition is read on: a transaction's markers reach its partitions one by one."""


@dataclass(frozen=True, slots=True)
class OffsetRange:
    """The offsets from ``first`` up to and without ``end``."""

    first: int
    end: int


@dataclass(frozen=True, slots=True, order=True)
class LogPosition:
    """The position of a record in the log."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


Position = Annotated[str, Field(description="topic/partition/offset", examples=["switchboard.events/3/17"])]
"""A `LogPosition` in an answer: its text."""


class LogRecord(Protocol):
    """A record of the log; aiokafka's `ConsumerRecord` has these fields."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


def position_of(record: LogRecord) -> LogPosition:
    return LogPosition(record.topic, record.partition, record.offset)


def end_positions(ranges: Mapping[TopicPartition, OffsetRange]) -> list[LogPosition]:
    """How far a reading of the ranges goes: the first offset of each partition that it does not see."""
    return [LogPosition(source.topic, source.partition, ranges[source].end) for source in sorted(ranges)]


Progress = Callable[[int], None]
"""Called with the number of offsets that the reading advanced."""


def no_progress(_: int) -> None:
    pass


class Log(Protocol):
    """The live log, or a copy of it."""

    partitions: int
    """How many have channels; 0 where that is unknown, as of a copy."""
    growth: Partitions

    async def offset_ranges(self, *names: str) -> dict[TopicPartition, OffsetRange]:
        """The offsets of the topics' committed records at this moment; a topic that a copy lacks has none."""

    def read(
        self, source: TopicPartition, offsets: OffsetRange, progress: Progress = no_progress, *, unchecked: bool = False
    ) -> AsyncIterator[Sequence[LogRecord]]:
        """The records of one partition in the order of their offsets, batch by batch.

        Raises `DamagedLog`; with ``unchecked`` not where a checksum is wrong, but the records can be read.
        """

    def merged(
        self, ranges: Mapping[TopicPartition, OffsetRange], progress: Progress = no_progress
    ) -> AsyncIterator[LogRecord]:
        """The records of several partitions in the order of time, and each partition's in its own order."""


def homes_of(log: Log) -> Homes:
    return Homes(log.growth.count(log.partitions), log.growth)


def sources_of(log: Log, topic: str, channel: str) -> list[TopicPartition]:
    """The partitions that the channel's records lie on, the oldest first. The log's number of partitions is known."""
    homes = homes_of(log)
    return homes.with_ancestors(TopicPartition(topic, partition_of(channel, homes.count)))


async def read_until(
    log: Log,
    source: TopicPartition,
    enough: Callable[[], bool],
    progress: Progress = no_progress,
    damaged: Callable[[LogPosition], None] | None = None,
) -> AsyncIterator[tuple[Sequence[LogRecord], int]]:
    """A partition's records with the end that is read to, and some seconds of what comes after, until there is enough.

    A transaction's markers reach its partitions one by one: what one partition tells of may not be there in the next.
    ``damaged`` is told where a checksum is wrong, and the reading goes on; without it `DamagedLog` is raised, and so it
    is where nothing further can be read.
    """
    at, unchecked = 0, False
    untold: LogPosition | None = None
    waits = iter(WAITS_S)
    while True:
        offsets = (await log.offset_ranges(source.topic)).get(source, OffsetRange(0, 0))
        try:
            rest = OffsetRange(max(offsets.first, at), offsets.end)
            async for batch in log.read(source, rest, progress, unchecked=unchecked):
                if damaged is not None and untold is not None and batch[-1].offset >= untold.offset:
                    damaged(next(position_of(record) for record in batch if record.offset >= untold.offset))
                    untold = None
                yield batch, offsets.end
                at = batch[-1].offset + 1
        except DamagedLog as damage:
            if damaged is None or unchecked:
                raise
            unchecked, untold = True, damage.position
            continue
        at = offsets.end
        yield (), at
        if enough() or not log.partitions or (wait := next(waits, None)) is None:
            return
        await asyncio.sleep(wait)

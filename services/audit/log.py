"""The log that is audited: committed records only, each partition from its beginning to its end as it was when the
reading started, in memory that does not grow with the log. `kafka_log` reads the broker's, `copied_log` a copy."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from contracts.partitioner import partition_of

_WAITS_S = (0.2, 0.5, 1.0, 3.0)


class AuditError(Exception):
    """What was asked for cannot be answered; the sentence says why."""


class Unclear(AuditError):
    """What was given is no moment, no file or no name that can be read."""


class NoSuchVersion(AuditError):
    """The channel has no such version, or none yet."""


class BrokenLog(AuditError):
    """The log cannot be read or folded at a record."""


@dataclass(frozen=True, slots=True, order=True)
class Source:
    """A partition of a topic."""

    topic: str
    partition: int


class DamagedLog(BrokenLog):
    """The bytes of the log are damaged from ``position`` on: its checksum is wrong, or nothing can be made of it."""

    def __init__(self, position: Position) -> None:
        super().__init__(
            f"The log is damaged on its way or its disk: the records from {position} on do not have the checksum "
            "that was written with them; `switchboard audit verify` names all that is wrong."
        )
        self.position = position


@dataclass(frozen=True, slots=True)
class Span:
    """The offsets from ``first`` up to and without ``end``."""

    first: int
    end: int


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Where a record lies. What an answer rests on."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"

    def cited(self) -> dict[str, Any]:
        return {"topic": self.topic, "partition": self.partition, "offset": self.offset}


class LogRecord(Protocol):
    """What is read of a record; aiokafka's `ConsumerRecord` has it."""

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


def position_of(record: LogRecord) -> Position:
    return Position(record.topic, record.partition, record.offset)


def ends_of(spans: Mapping[Source, Span]) -> list[Position]:
    """How far a reading of the spans goes: the first offset of each partition that it does not see."""
    return [Position(source.topic, source.partition, spans[source].end) for source in sorted(spans)]


Progress = Callable[[int], None]
"""Told by how many offsets the reading moved on."""


def silent(_: int) -> None:
    pass


class Log(Protocol):
    """The live log, or a copy of it."""

    partitions: int

    async def spans(self, *names: str) -> dict[Source, Span]:
        """What these topics hold of committed records at this moment; a topic that a copy lacks has none."""

    def read(
        self, source: Source, span: Span, progress: Progress = silent, *, unchecked: bool = False
    ) -> AsyncIterator[Sequence[LogRecord]]:
        """The records of one partition in the order of their offsets, batch by batch.

        Raises `DamagedLog`; with ``unchecked`` not where a checksum is wrong, but the records can be read.
        """

    def merged(self, spans: Mapping[Source, Span], progress: Progress = silent) -> AsyncIterator[LogRecord]:
        """The records of several partitions in the order of time, and each partition's in its own order."""


def home_of(log: Log, topic: str, channel: str) -> Source:
    """The partition that the channel's records lie on."""
    return Source(topic, partition_of(channel, log.partitions))


async def read_on(
    log: Log,
    source: Source,
    enough: Callable[[], bool],
    progress: Progress = silent,
    damaged: Callable[[Position], None] | None = None,
) -> AsyncIterator[tuple[Sequence[LogRecord], int]]:
    """A partition's records with the end that is read to, and some seconds of what comes after, until there is enough.

    A transaction's markers reach its partitions one by one: what one partition tells of may not be there in the next.
    ``damaged`` is told where a checksum is wrong, and the reading goes on; without it `DamagedLog` is raised, and so it
    is where nothing further can be read.
    """
    at, unchecked = 0, False
    untold: Position | None = None
    waits = iter(_WAITS_S)
    while True:
        span = (await log.spans(source.topic)).get(source, Span(0, 0))
        try:
            rest = Span(max(span.first, at), span.end)
            async for batch in log.read(source, rest, progress, unchecked=unchecked):
                if damaged is not None and untold is not None and batch[-1].offset >= untold.offset:
                    damaged(next(position_of(record) for record in batch if record.offset >= untold.offset))
                    untold = None
                yield batch, span.end
                at = batch[-1].offset + 1
        except DamagedLog as damage:
            if damaged is None or unchecked:
                raise
            unchecked, untold = True, damage.position
            continue
        at = span.end
        yield (), at
        if enough() or not log.partitions or (wait := next(waits, None)) is None:
            return
        await asyncio.sleep(wait)


async def merge(batches: Mapping[Source, AsyncIterator[Sequence[LogRecord]]]) -> AsyncIterator[LogRecord]:
    """One reading of several, by time.

    Events come before outcomes of the same time, as an outcome tells of its command's events.
    """
    waiting: list[tuple[int, Source, int, Sequence[LogRecord]]] = []

    async def refill(source: Source) -> None:
        batch = await anext(batches[source], None)
        if batch:
            heapq.heappush(waiting, (batch[0].timestamp, source, 0, batch))

    for source in batches:
        await refill(source)
    while waiting:
        time, source, index, batch = heapq.heappop(waiting)
        yield batch[index]
        if index + 1 < len(batch):
            # A clock that was set back must not hold up what follows: the order within a partition stands.
            heapq.heappush(waiting, (max(time, batch[index + 1].timestamp), source, index + 1, batch))
        else:
            await refill(source)

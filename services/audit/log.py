"""Reading the log itself, or a copy of it: committed records only, each partition from its beginning to its end as it
was when the reading started, in memory that does not grow with the log.

A copy is a file of JSON Lines, one record a line: ``topic``, ``partition``, ``offset``, ``timestamp`` (Unix
milliseconds), ``key``, ``value`` and ``headers`` (a list of pairs), the bytes as text. Bytes that are no UTF-8 are
``{"base64": "…"}``, and an absent key or value is null.
"""

from __future__ import annotations

import asyncio
import base64
import heapq
import json
from array import array
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from contracts import topics
from contracts.partitioner import partition_of
from services.infrastructure.settings import SettingsError

FETCH_BYTES = 1024 * 1024
"""So much of each partition that is being read is held in memory; a larger record comes alone."""

_RECORDS_A_BATCH = 1_000
_LONGEST_LINE = 16 * 1024 * 1024


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


Progress = Callable[[int], None]
"""Told by how many offsets the reading moved on."""


def _silent(_: int) -> None:
    pass


class Log(Protocol):
    """The live log, or a copy of it."""

    partitions: int

    async def spans(self, *names: str) -> dict[Source, Span]:
        """What these topics hold of committed records at this moment; a topic that a copy lacks has none."""

    def read(self, source: Source, span: Span, progress: Progress = _silent) -> AsyncIterator[Sequence[LogRecord]]:
        """The records of one partition in the order of their offsets, batch by batch."""

    def merged(self, spans: Mapping[Source, Span], progress: Progress = _silent) -> AsyncIterator[LogRecord]:
        """The records of several partitions in the order of time, and each partition's in its own order."""


def home_of(log: Log, topic: str, channel: str) -> Source:
    """The partition that the channel's records lie on."""
    return Source(topic, partition_of(channel, log.partitions))


class KafkaLog:
    """The live log; an async context manager. One reading at a time. Joins no group and commits nothing."""

    def __init__(self, bootstrap_servers: str, security: Mapping[str, Any]) -> None:
        self.partitions = 0
        self._bootstrap_servers, self._security = bootstrap_servers, security
        self._consumer: Any = None
        self._topics: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap_servers, **self._security)
        await admin.start()
        try:
            self._topics = {one["topic"]: len(one["partitions"]) for one in await admin.describe_topics()}
        finally:
            await admin.close()
        self.partitions = self._topics.get(topics.EVENTS.name, 0)
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap_servers,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=FETCH_BYTES,
            fetch_max_wait_ms=100,
            **self._security,
        )
        await self._consumer.start()
        # aiokafka's `stop` fails with CancelledError while its background tasks have not had their first turn.
        await asyncio.sleep(0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._consumer.stop()

    async def spans(self, *names: str) -> dict[Source, Span]:
        for name in names:
            if name not in self._topics:
                raise SettingsError(f"The broker has no topic {name}; `switchboard topics apply` makes the topics.")
        homes = [TopicPartition(name, number) for name in names for number in range(self._topics[name])]
        # For a read_committed consumer the end is the last stable offset: nothing before it is still undecided.
        first, end = await self._consumer.beginning_offsets(homes), await self._consumer.end_offsets(homes)
        return {Source(home.topic, home.partition): Span(first[home], end[home]) for home in homes}

    async def read(
        self, source: Source, span: Span, progress: Progress = _silent
    ) -> AsyncIterator[Sequence[LogRecord]]:
        self._assign({source: span})
        async for batch in self._batches(source, span, progress):
            yield batch

    async def merged(self, spans: Mapping[Source, Span], progress: Progress = _silent) -> AsyncIterator[LogRecord]:
        self._assign(spans)
        async for record in _merge({source: self._batches(source, span, progress) for source, span in spans.items()}):
            yield record

    def _assign(self, spans: Mapping[Source, Span]) -> None:
        homes = {source: TopicPartition(source.topic, source.partition) for source in spans}
        self._consumer.assign(list(homes.values()))
        for source, span in spans.items():
            self._consumer.seek(homes[source], span.first)

    async def _batches(self, source: Source, span: Span, progress: Progress) -> AsyncIterator[Sequence[LogRecord]]:
        home = TopicPartition(source.topic, source.partition)
        at = span.first
        while at < span.end:
            records = (await self._consumer.getmany(home, timeout_ms=200)).get(home, [])
            # The next fetch goes out now, and its answer is there when this batch is done with.
            await asyncio.sleep(0)
            # Markers and aborted records have offsets too, so the position says more than the last record.
            position = min(await self._consumer.position(home), span.end)
            if records and records[-1].offset >= span.end:
                records = [record for record in records if record.offset < span.end]
            progress(position - at)
            at = position
            if records:
                yield records


@dataclass(frozen=True, slots=True)
class CopiedRecord:
    """A record as a copy of the log has it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class CopiedLog:
    """A copy of the log in a file, in any order of partitions. Keeps 8 bytes of memory for each record."""

    def __init__(self, path: Path) -> None:
        """Raises `AuditError` where the file is no copy of the log."""
        self._path = path
        self._lines: dict[Source, array[int]] = {}
        self._spans: dict[Source, Span] = {}
        try:
            with path.open("rb") as file:
                self._index(file)
        except OSError as error:
            raise AuditError(f"{path} cannot be read: {error.strerror}.") from None
        self.partitions = 0
        """Unknown: a copy may lack partitions."""

    def _index(self, file: IO[bytes]) -> None:
        at = 0
        for number, line in enumerate(file, start=1):
            if line.strip():
                record = self._parse(line, number)
                source = Source(record.topic, record.partition)
                span = self._spans.get(source, Span(record.offset, record.offset))
                if record.offset < span.end:
                    raise AuditError(f"{self._path}, line {number}: the offsets of {source.topic} go back here.")
                self._spans[source] = Span(span.first, record.offset + 1)
                self._lines.setdefault(source, array("Q")).append(at)
            at += len(line)

    def _parse(self, line: bytes, number: int = 0) -> CopiedRecord:
        try:
            raw = json.loads(line)
            return CopiedRecord(
                raw["topic"],
                raw["partition"],
                raw["offset"],
                raw.get("timestamp", 0),
                _bytes(raw["key"]),
                _bytes(raw["value"]),
                tuple((name, _bytes(value) or b"") for name, value in raw.get("headers") or ()),
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise AuditError(f"{self._path}, line {number} is no record of the log ({error!r}).") from None

    async def spans(self, *names: str) -> dict[Source, Span]:
        return {source: span for source, span in sorted(self._spans.items()) if source.topic in names}

    async def read(
        self, source: Source, span: Span, progress: Progress = _silent
    ) -> AsyncIterator[Sequence[LogRecord]]:
        lines = self._lines.get(source, array("Q"))
        at = span.first
        with self._path.open("rb") as file:
            for start in range(0, len(lines), _RECORDS_A_BATCH):
                batch = []
                for line in lines[start : start + _RECORDS_A_BATCH]:
                    file.seek(line)
                    record = self._parse(file.readline(_LONGEST_LINE))
                    if span.first <= record.offset < span.end:
                        batch.append(record)
                if batch:
                    progress(batch[-1].offset + 1 - at)
                    at = batch[-1].offset + 1
                    yield batch

    async def merged(self, spans: Mapping[Source, Span], progress: Progress = _silent) -> AsyncIterator[LogRecord]:
        async for record in _merge({source: self.read(source, span, progress) for source, span in spans.items()}):
            yield record


async def _merge(batches: Mapping[Source, AsyncIterator[Sequence[LogRecord]]]) -> AsyncIterator[LogRecord]:
    """By time; events before outcomes of one time, as a command's events are what its outcome tells of."""
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


def copied_line(record: LogRecord) -> str:
    """A record as a line of a copy."""
    return json.dumps(
        {
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "timestamp": record.timestamp,
            "key": _text(record.key),
            "value": _text(record.value),
            "headers": [[name, _text(value)] for name, value in record.headers],
        },
        ensure_ascii=False,
    )


async def copy(log: Log, names: Iterable[str], out: IO[str], progress: Progress = _silent) -> int:
    """Writes a copy of the topics as they are at this moment, and returns how many records it holds."""
    written = 0
    for source, span in (await log.spans(*names)).items():
        async for batch in log.read(source, span, progress):
            out.writelines(copied_line(record) + "\n" for record in batch)
            written += len(batch)
    return written


def _text(value: bytes | None) -> str | dict[str, str] | None:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def _bytes(value: Any) -> bytes | None:
    if isinstance(value, dict):
        return base64.b64decode(value["base64"])
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError("a key or value must be text")
    return value.encode(errors="surrogatepass")

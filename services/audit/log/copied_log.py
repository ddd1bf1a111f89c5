"""Reading a copy of the log, and making one.

A copy is a file of JSON Lines, one record a line: ``topic``, ``partition``, ``offset``, ``timestamp`` (Unix
milliseconds), ``key``, ``value`` and ``headers`` (a list of pairs), the bytes as text. Bytes that are no UTF-8 are
``{"base64": "…"}``, and an absent key or value is null.
"""

from __future__ import annotations

import base64
import json
from array import array
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from aiokafka import TopicPartition
from pydantic import ValidationError

from contracts.partition_growth import PartitionGrowth, Partitions
from contracts.topics import PARTITION_GROWTH
from services.audit.log.errors import AuditError
from services.audit.log.merge import merge
from services.audit.log.source import Log, LogRecord, OffsetRange, Progress, no_progress

_RECORDS_A_BATCH = 1_000
_LONGEST_LINE = 32 * 1024 * 1024


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
        self._lines: dict[TopicPartition, array[int]] = {}
        self._ranges: dict[TopicPartition, OffsetRange] = {}
        try:
            with path.open("rb") as file:
                self._index(file)
        except OSError as error:
            raise AuditError(f"{path} cannot be read: {error.strerror}.") from None
        self.partitions = 0
        """Unknown: a copy may lack partitions."""
        self.growth = self._read_growth()

    def _index(self, file: IO[bytes]) -> None:
        at = 0
        for number, line in enumerate(file, start=1):
            if line.strip():
                record = self._parse(line, number)
                source = TopicPartition(record.topic, record.partition)
                offsets = self._ranges.get(source, OffsetRange(record.offset, record.offset))
                if record.offset < offsets.end:
                    raise AuditError(f"{self._path}, line {number}: the offsets of {source.topic} go back here.")
                self._ranges[source] = OffsetRange(offsets.first, record.offset + 1)
                self._lines.setdefault(source, array("Q")).append(at)
            at += len(line)

    def _read_growth(self) -> Partitions:
        found: dict[bytes | None, PartitionGrowth] = {}
        with self._path.open("rb") as file:
            for line in self._lines.get(TopicPartition(PARTITION_GROWTH.name, 0), ()):
                file.seek(line)
                record = self._parse(file.readline(_LONGEST_LINE))
                try:
                    found[record.key] = PartitionGrowth.model_validate_json(record.value or b"")
                except ValidationError:
                    where = f"{record.topic}/{record.partition}/{record.offset}"
                    raise AuditError(f"{self._path}: the record at {where} is no growth.") from None
        return Partitions(found.values())

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

    async def offset_ranges(self, *names: str) -> dict[TopicPartition, OffsetRange]:
        return {source: offsets for source, offsets in sorted(self._ranges.items()) if source.topic in names}

    async def read(
        self,
        source: TopicPartition,
        offsets: OffsetRange,
        progress: Progress = no_progress,
        *,
        unchecked: bool = False,  # noqa: ARG002 -- a copy has no checksums
    ) -> AsyncIterator[Sequence[LogRecord]]:
        lines = self._lines.get(source, array("Q"))
        at = offsets.first
        with self._path.open("rb") as file:
            for start in range(0, len(lines), _RECORDS_A_BATCH):
                batch = []
                for line in lines[start : start + _RECORDS_A_BATCH]:
                    file.seek(line)
                    record = self._parse(file.readline(_LONGEST_LINE))
                    if offsets.first <= record.offset < offsets.end:
                        batch.append(record)
                if batch:
                    progress(batch[-1].offset + 1 - at)
                    at = batch[-1].offset + 1
                    yield batch

    async def merged(
        self, ranges: Mapping[TopicPartition, OffsetRange], progress: Progress = no_progress
    ) -> AsyncIterator[LogRecord]:
        readings = {source: self.read(source, offsets, progress) for source, offsets in ranges.items()}
        async for record in merge(readings, self.growth):
            yield record


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


async def copy(
    log: Log,
    ranges: Mapping[TopicPartition, OffsetRange],
    write: Callable[[str], object],
    progress: Progress = no_progress,
) -> int:
    """Writes a copy of the ranges line by line, and returns how many records it holds."""
    written = 0
    for source, offsets in ranges.items():
        async for batch in log.read(source, offsets, progress):
            for record in batch:
                write(copied_line(record) + "\n")
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

"""What we change in aiokafka. Read in aiokafka 0.14.0, which pyproject.toml pins.

Importing this module changes three things for every client of this process, FastStream's too:

* `BACKOFF_OVERRIDE`: the wait between the transactions of one id.
* `MetadataRequest`: a broker does not create a topic because a client asks about it.
* `fetcher.MemoryRecords`, `fetcher.PartitionRecords`: a header name that is not UTF-8 is read with escapes.

The contracts' own changes (`contracts.kafka.aiokafka_internals`) come with it.

``tests/unit/infrastructure/library_internals/test_aiokafka.py`` fails when the code that this relies on changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self, SupportsIndex

from aiokafka import AIOKafkaProducer
from aiokafka.consumer import fetcher
from aiokafka.producer import sender as aiokafka_sender
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy

import contracts.kafka.aiokafka_internals  # noqa: F401 -- its changes

# aiokafka waits 20 ms between the transactions of one id, which limits a partition to 79 transactions a second. The
# broker needs 1 to 2 ms.
aiokafka_sender.BACKOFF_OVERRIDE = 0.001

# By default a broker creates every topic that a client asks about. Ours are created by `topics apply`, with settings.
MetadataRequest.__init__.__defaults__ = (None, False)


def mark_closed(producer: AIOKafkaProducer) -> None:
    """Marks the producer as stopped, so that it neither flushes nor warns when it is deleted."""
    producer._closed = True


# Kafka asks for UTF-8 in header names and checks nothing, and aiokafka reads nothing of a batch with such a record:
# anyone who may publish could stop a partition for good. Such a batch is read again by aiokafka's parser in Python.


class _EscapingBuffer(bytearray):
    """A buffer whose slices decode with escapes in place of bytes that are not UTF-8."""

    def __getitem__(self, at: SupportsIndex | slice) -> Any:
        found = super().__getitem__(at)
        return found if isinstance(found, int) else _EscapingBuffer(found)

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        return super().decode(encoding, errors)


class _EscapingBatch(_DefaultRecordBatchPy):  # type: ignore[misc]
    _buffer: bytearray

    def __iter__(self) -> Self:
        super().__iter__()
        self._buffer = _EscapingBuffer(self._buffer)
        return self


class _RereadableRecords(MemoryRecords):  # type: ignore[misc]
    """The batches of a fetch with their bytes, so that a batch can be read again."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._data = data

    def batch_with(self, offset: int) -> _EscapingBatch:
        batches = _MemoryRecordsPy(self._data)
        while True:
            raw, batch = batches._next_slice, batches.next_batch()
            if batch.next_offset > offset:
                return _EscapingBatch(raw)


class _BatchThenRest:
    """One batch that is read again, then the batches after it."""

    def __init__(self, first: _EscapingBatch, rest: Any) -> None:
        self._first: _EscapingBatch | None = first
        self._rest = rest

    def has_next(self) -> bool:
        return self._first is not None or self._rest.has_next()

    def next_batch(self) -> Any:
        first, self._first = self._first, None
        return self._rest.next_batch() if first is None else first


class _LenientPartitionRecords(fetcher.PartitionRecords):  # type: ignore[misc]
    _records: Any

    def _unpack_records(self) -> Iterator[Any]:
        fetched = self._records
        while True:
            try:
                yield from super()._unpack_records()
            except UnicodeDecodeError:
                self._records = _BatchThenRest(fetched.batch_with(self.next_fetch_offset), fetched)
            else:
                return


fetcher.MemoryRecords, fetcher.PartitionRecords = _RereadableRecords, _LenientPartitionRecords

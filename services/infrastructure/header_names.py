"""A record header whose name is not UTF-8 is read with that name escaped.

Kafka asks for UTF-8 there and checks nothing, and aiokafka reads nothing of a batch that has such a record: whoever may
publish could stop a partition for good. So a batch that fails for it is read once more, by aiokafka's parser in Python.

This relies on internals of the pinned aiokafka; ``tests/integration/test_foreign_client.py`` fails when they change.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self, SupportsIndex

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy


class _Forgiving(bytearray):
    """What is cut out of it and decoded has escapes in place of what is not UTF-8."""

    def __getitem__(self, at: SupportsIndex | slice) -> Any:
        found = super().__getitem__(at)
        return found if isinstance(found, int) else _Forgiving(found)

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        return super().decode(encoding, errors)


class _ForgivingBatch(_DefaultRecordBatchPy):  # type: ignore[misc]
    _buffer: bytearray

    def __iter__(self) -> Self:
        super().__iter__()
        self._buffer = _Forgiving(self._buffer)
        return self


class _Fetched(MemoryRecords):  # type: ignore[misc]
    """The batches that the broker sent, and their bytes, so that one can be read once more."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._data = data

    def batch_with(self, offset: int) -> _ForgivingBatch:
        batches = _MemoryRecordsPy(self._data)
        while True:
            raw, batch = batches._next_slice, batches.next_batch()
            if batch.next_offset > offset:
                return _ForgivingBatch(raw)


class _OneThenTheRest:
    """Batches, of which the first was read once already."""

    def __init__(self, first: _ForgivingBatch, rest: Any) -> None:
        self._first: _ForgivingBatch | None = first
        self._rest = rest

    def has_next(self) -> bool:
        return self._first is not None or self._rest.has_next()

    def next_batch(self) -> Any:
        first, self._first = self._first, None
        return self._rest.next_batch() if first is None else first


class _PartitionRecords(fetcher.PartitionRecords):  # type: ignore[misc]
    _records: Any

    def _unpack_records(self) -> Iterator[Any]:
        fetched = self._records
        while True:
            try:
                yield from super()._unpack_records()
            except UnicodeDecodeError:
                self._records = _OneThenTheRest(fetched.batch_with(self.next_fetch_offset), fetched)
            else:
                return


fetcher.MemoryRecords, fetcher.PartitionRecords = _Fetched, _PartitionRecords

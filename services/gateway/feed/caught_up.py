"""What followers found in Kafka, for others that want the same from the same cursor on."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from contracts.cursor import Cursor, EventFilter

KEPT_BYTES = 8 * 1024 * 1024

ReadResult = list[tuple[bytes, Cursor]]
"""Events as JSON, each with the cursor after it."""

CatchUpKey = tuple[EventFilter, str]
"""The filter, its account included, and the cursor after which was read."""


@dataclass(frozen=True, slots=True)
class CatchUpBatch:
    """What a turn of catching up found, and the cursor after all that it read."""

    changes: ReadResult
    after: Cursor

    @property
    def size(self) -> int:
        return sum(len(value) for value, _ in self.changes)


class CaughtUp:
    """The batches that were used last, `KEPT_BYTES` of them. The log before a cursor's events never changes."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._batches: OrderedDict[CatchUpKey, CatchUpBatch] = OrderedDict()
        self._kept_bytes, self._bytes = kept_bytes, 0

    def get(self, key: CatchUpKey) -> CatchUpBatch | None:
        batch = self._batches.get(key)
        if batch is not None:
            self._batches.move_to_end(key)
        return batch

    def put(self, key: CatchUpKey, batch: CatchUpBatch) -> None:
        """An empty batch is not kept: it says nothing about what is appended next."""
        if not batch.changes:
            return
        self._bytes += batch.size - (self._batches[key].size if key in self._batches else 0)
        self._batches[key] = batch
        while self._bytes > self._kept_bytes:
            _, oldest = self._batches.popitem(last=False)
            self._bytes -= oldest.size

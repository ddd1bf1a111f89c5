"""A log whose reading can be cancelled between any few records, whatever is computed from them.

Folding a batch of a thousand records waits for nothing, so a task that does it could be cancelled only after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, cast

from aiokafka import TopicPartition

from services.audit.log.source import Log, LogRecord, OffsetRange, Progress, no_progress

RECORDS_AT_ONCE = 32


class InterruptibleLog:
    """The same log; a cancellation takes effect after `RECORDS_AT_ONCE` records."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.partitions, self.growth = log.partitions, log.growth

    async def offset_ranges(self, *names: str) -> dict[TopicPartition, OffsetRange]:
        return await self._log.offset_ranges(*names)

    async def read(
        self, source: TopicPartition, offsets: OffsetRange, progress: Progress = no_progress, *, unchecked: bool = False
    ) -> AsyncIterator[Sequence[LogRecord]]:
        async with aclosing(cast("Any", self._log.read(source, offsets, progress, unchecked=unchecked))) as batches:
            async for batch in batches:
                for first in range(0, len(batch), RECORDS_AT_ONCE):
                    yield batch[first : first + RECORDS_AT_ONCE]
                    await asyncio.sleep(0)

    async def merged(
        self, ranges: Mapping[TopicPartition, OffsetRange], progress: Progress = no_progress
    ) -> AsyncIterator[LogRecord]:
        count = 0
        async with aclosing(cast("Any", self._log.merged(ranges, progress))) as records:
            async for record in records:
                yield record
                count += 1
                if count % RECORDS_AT_ONCE == 0:
                    await asyncio.sleep(0)

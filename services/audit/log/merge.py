"""One reading of several partitions, by time."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence

from aiokafka import TopicPartition

from contracts.partition_growth import Partitions
from services.audit.log.source import LogRecord

Batches = AsyncIterator[Sequence[LogRecord]]


async def merge(batches: Mapping[TopicPartition, Batches], growth: Partitions) -> AsyncIterator[LogRecord]:
    """The records by time, each partition's in its own order; a partition that was added begins after its parent's cut.

    Events come before outcomes of the same time, as an outcome tells of its command's events.
    """
    merging = _Merging(batches, growth)
    for source in merging.originals:
        await merging.read_on(source)
    while merging.waiting:
        time, source, index, batch = heapq.heappop(merging.waiting)
        await merging.begin_children(source, batch[index].offset)
        yield batch[index]
        await merging.begin_children(source, batch[index].offset + 1)
        if index + 1 < len(batch):
            # A clock that was set back must not hold up what follows: the order within a partition stands.
            entry = max(time, batch[index + 1].timestamp), source, index + 1, batch
            heapq.heappush(merging.waiting, entry)
        else:
            await merging.read_on(source)


class _Merging:
    def __init__(self, batches: Mapping[TopicPartition, Batches], growth: Partitions) -> None:
        self._batches = batches
        self.waiting: list[tuple[int, TopicPartition, int, Sequence[LogRecord]]] = []
        self.originals: list[TopicPartition] = []
        self._children: dict[TopicPartition, list[tuple[int, TopicPartition]]] = defaultdict(list)
        """By parent: its cut and the partition that begins there."""
        for source in batches:
            parent = growth.parent(source.topic, source.partition)
            before = None if parent is None else TopicPartition(source.topic, parent.partition)
            if parent is None or before not in batches:
                self.originals.append(source)
            else:
                self._children[before].append((parent.cut, source))

    async def read_on(self, source: TopicPartition) -> None:
        batch = await anext(self._batches[source], None)
        if batch:
            heapq.heappush(self.waiting, (batch[0].timestamp, source, 0, batch))
        else:
            await self.begin_children(source, None)

    async def begin_children(self, parent: TopicPartition, offset: int | None) -> None:
        """Begins what waits for the records before the offset; without one, whatever waits for the partition."""
        if not (waiting := self._children.get(parent)):
            return
        for cut, child in [one for one in waiting if offset is None or one[0] <= offset]:
            waiting.remove((cut, child))
            await self.read_on(child)

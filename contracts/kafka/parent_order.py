"""Reads partitions that were added after their parents (see `contracts.partition_growth`), so that each channel's
events come in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aiokafka import TopicPartition

from ..partition_growth import Partitions
from .partition_growth import partitions_by, read_partitions

METADATA_MAX_AGE_MS = 5_000
"""So long until added partitions are noticed. After a broker restart aiokafka's assignor can also leave a group without
partitions until its metadata refreshes."""

_LOOK_EVERY_S = 1.0


class ParentOrder:
    """Assigns the partitions of a topic, and holds those whose parents are not read up to the cut: they are paused.

    ``next_offset`` gives the offset of a partition that its reader processes next, 0 where that is not known: what was
    fetched is not enough. ``options`` are aiokafka's. Raises KafkaError.
    """

    def __init__(self, consumer: Any, topic: str, options: Mapping[str, Any]) -> None:
        self._consumer, self._topic, self._options = consumer, topic, options
        self.growth = Partitions()
        self.held: set[TopicPartition] = set()
        self._looked_at = 0.0

    def existing(self) -> int:
        """How many partitions the topic has, as far as the consumer knows."""
        return len(self._consumer.partitions_for_topic(self._topic) or ())

    @property
    def is_look_due(self) -> bool:
        """Whether it is time to look again at what is elsewhere: the growth, and the positions of other readers."""
        return time.monotonic() - self._looked_at > _LOOK_EVERY_S

    async def start(self, existing: int, known: dict[int, Partitions], *, in_group: bool = False) -> None:
        """Reads the growths by the consumer, which is assigned nothing yet, unless they are known.

        ``known`` are those of earlier consumers, by the number of partitions, which these are added to.
        """
        if existing in known:
            self.growth = known[existing]
            return
        if in_group:
            await self.read_growth()  # a consumer that subscribes cannot be assigned anything
        else:
            self.growth = await partitions_by(self._consumer)
        if self.growth.unfinished is None:
            known[existing] = self.growth

    async def read_growth(self) -> None:
        """Reads the growths when there are new partitions."""
        self.growth = await read_partitions(**self._options)

    def assign(self, offsets: Mapping[TopicPartition, int], next_offset: Callable[[int], int]) -> None:
        """Assigns all partitions that are read, without a group, and the offset where each begins."""
        self._consumer.assign([*offsets])
        for tp, offset in offsets.items():
            self._consumer.seek(tp, offset)
        self.hold(offsets, next_offset)

    def hold(self, assigned: Iterable[TopicPartition], next_offset: Callable[[int], int]) -> None:
        """Pauses those that have to wait, of all that were just assigned."""
        self.held = {tp for tp in assigned if not self._is_due(tp.partition, next_offset)}
        self._consumer.pause(*self.held)

    async def follow(self, known: int | None, next_offset: Callable[[int], int]) -> range:
        """To be called before each fetch: resumes the partitions whose parents are read by now. Without a group, also
        assigns the partitions that were added to the ``known`` ones, and returns their numbers."""
        added = range(known, self.existing()) if known is not None else range(0)
        if added:
            await self.read_growth()
            offsets = {tp: await self._consumer.position(tp) for tp in self._consumer.assignment()}
            self.assign(offsets | {TopicPartition(self._topic, number): 0 for number in added}, next_offset)
        if self.held:
            if self.is_look_due:
                self._looked_at = time.monotonic()
                if self.growth.unfinished:
                    await self.read_growth()
            due = {tp for tp in self.held if self._is_due(tp.partition, next_offset)}
            self.held -= due
            self._consumer.resume(*due)
        return added

    def _is_due(self, partition: int, next_offset: Callable[[int], int]) -> bool:
        return self.growth.is_open(partition) and not self.growth.unread(self._topic, partition, next_offset)

"""Reads the commands of one partition; where the number of partitions grew, those of its older partitions first."""

from __future__ import annotations

from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from contracts import topics
from services.decider.config import DeciderConfig
from services.decider.partition_state import PartitionState


class CommandReader:
    """Goes on from the state's checkpoint. ``consumer`` is started, and assigned by this reader alone."""

    def __init__(self, consumer: AIOKafkaConsumer, state: PartitionState, config: DeciderConfig) -> None:
        self._consumer, self._state, self._partition = consumer, state, config.partition
        older = config.growth.ancestors(topics.COMMANDS.name, config.partition)
        self._older = {one.partition: one.cut for one in reversed(older)}
        """The cut by partition, the oldest first."""
        self._assign()

    @property
    def source(self) -> TopicPartition:
        """The partition that is read now."""
        reading = self._state.checkpoint.reading
        return TopicPartition(topics.COMMANDS.name, self._partition if reading is None else reading)

    def _assign(self) -> None:
        self._consumer.assign([self.source])
        self.seek()

    def seek(self) -> None:
        """The next fetch begins at the checkpoint."""
        self._consumer.seek(self.source, self._state.checkpoint.next_offset)

    async def fetch(self, limit: int) -> list[Any]:
        """The next commands, at most ``limit`` of one partition; none where none comes for a while. What was fetched
        before must be decided, or given back by `seek`."""
        cut = self._older.get(self.source.partition)
        while cut is not None and await self._consumer.position(self.source) >= cut:
            following = [*self._older, None]
            self._state.read_commands_of(following[following.index(self.source.partition) + 1])
            self._assign()
            cut = self._older.get(self.source.partition)
        fetched = await self._consumer.getmany(self.source, timeout_ms=500, max_records=limit)
        return [record for record in fetched.get(self.source, ()) if cut is None or record.offset < cut]

    async def progress(self) -> tuple[int, int | None]:
        """The next offset and the last stable one, of the partition that is read now."""
        return await self._consumer.position(self.source), self._consumer.last_stable_offset(self.source)

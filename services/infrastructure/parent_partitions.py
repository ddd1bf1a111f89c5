"""Before a partition that was added, its ancestors are read: where its channels lived before, up to the cuts.

Nothing is applied of the new partition before that, whichever process has those: their checkpoints tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog
from aiokafka import TopicPartition

from contracts.cursor import FIRST_POSITION, Position
from contracts.kafka.partition_growth import read_partitions
from contracts.partition_growth import Partitions
from services.infrastructure.checkpoints import next_positions
from services.infrastructure.kafka import security_options
from services.infrastructure.postgres import Pool

log = structlog.stdlib.get_logger(__name__)


async def read_growth(bootstrap_servers: str | None) -> Partitions:
    """How the number of partitions grew, by the security options of this process. Raises KafkaError."""
    return await read_partitions(bootstrap_servers=bootstrap_servers, **security_options())


class ParentPartitions:
    """The waiting partitions of the consumer ``name``."""

    def __init__(self, pool: Pool, name: str, bootstrap_servers: str | None) -> None:
        self._pool, self._name, self._bootstrap_servers = pool, name, bootstrap_servers
        self._partitions = Partitions()
        self._known: dict[str, int] = {}
        """By topic: how many partitions it had before ``_partitions`` was read."""
        self._waiting: set[TopicPartition] = set()

    def revoked(self, tp: TopicPartition) -> None:
        self._waiting.discard(tp)

    async def hold(self, consumer: Any, tp: TopicPartition, checkpoints: Mapping[int, Position]) -> bool:
        """Pauses a partition of which nothing is applied, where its parent comes first. Returns whether it did.

        ``checkpoints`` are of the partition's topic. Raises KafkaError.
        """
        if not await self._has_to_wait(consumer, tp, checkpoints):
            return False
        log.info("waits for the parent", consumer=self._name, topic=tp.topic, partition=tp.partition)
        self._waiting.add(tp)
        consumer.pause(tp)
        consumer.seek(tp, 0)
        return True

    async def go_on(self, consumer: Any) -> None:
        """Resumes the partitions whose parents are read. Raises KafkaError."""
        for tp in list(self._waiting):
            checkpoints = await next_positions(self._pool, self._name, tp.topic)
            if not await self._has_to_wait(consumer, tp, checkpoints) and tp in self._waiting:
                self._waiting.remove(tp)
                consumer.resume(tp)

    async def _has_to_wait(self, consumer: Any, tp: TopicPartition, checkpoints: Mapping[int, Position]) -> bool:
        if tp.partition >= self._known.get(tp.topic, 0):
            existing = len(consumer.partitions_for_topic(tp.topic) or ())
            self._partitions = await read_growth(self._bootstrap_servers)
            if self._partitions.unfinished is None:
                self._known[tp.topic] = existing
        if not self._partitions.is_open(tp.partition):
            return True
        ancestors = self._partitions.unread(
            tp.topic, tp.partition, lambda number: checkpoints.get(number, FIRST_POSITION).offset
        )
        unread = {TopicPartition(tp.topic, ancestor.partition): ancestor.cut for ancestor in ancestors}
        # What expired before it was read is not waited for.
        first = await consumer.beginning_offsets(list(unread)) if unread else {}
        return any(first[source] < cut for source, cut in unread.items())

"""Where a channel's records lie: on one partition, and on those where the channel lived before the partitions grew."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from aiokafka import TopicPartition

from contracts.partition_growth import Partitions
from contracts.partitioner import partition_of


@dataclass(frozen=True, slots=True)
class Homes:
    """``count`` is the number of partitions that have channels; 0 where it is unknown."""

    count: int
    growth: Partitions

    def lives_on(self, channel: str, partition: int) -> bool:
        """Whether the channel lives there now; True where that cannot be told."""
        return not self.growth.growths or partition_of(channel, self.count) == partition

    def may_be_at(self, channel: str, source: TopicPartition, offset: int) -> bool:
        """Whether the channel has lived on the partition when that record was appended; True where unknown."""
        if not self.count or (home := partition_of(channel, self.count)) == source.partition:
            return True
        return any(
            parent.partition == source.partition and offset < parent.cut
            for parent in self.growth.ancestors(source.topic, home)
        )

    def with_ancestors(self, source: TopicPartition) -> list[TopicPartition]:
        """The partition, after those where its channels lived before, the oldest first."""
        older = [parent.partition for parent in reversed(self.growth.ancestors(source.topic, source.partition))]
        return [TopicPartition(source.topic, partition) for partition in (*older, source.partition)]

    def families(self, sources: Iterable[TopicPartition]) -> list[list[TopicPartition]]:
        """The partitions in groups that share no channel, each in the order in which it is read."""
        found: dict[TopicPartition, list[TopicPartition]] = defaultdict(list)
        for source in sorted(sources):
            found[TopicPartition(source.topic, self.growth.origin(*source))].append(source)
        return list(found.values())

"""How the number of partitions grew. A channel's older records stay on the partition where it lived before.

Topics keyed by channel grow by a whole multiple: then the channels of a new partition all come from one older
partition, its parent, because ``hash % 16`` decides ``hash % 8``. Whoever reads a new partition in order reads the
parent first, up to the cut: the offset after the parent's last record when the growth was finished. The parent's later
records are of other channels, except for requests of clients that had not heard of the growth yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict


class PartitionGrowth(BaseModel):
    """A record of `switchboard.partition-growth`, whose key is ``to`` in digits.

    While it is ``begun`` nobody decides. ``cuts`` are by topic and number of the older partition: the offset after its
    last record, so that who has applied that record has reached the cut.
    """

    model_config = ConfigDict(frozen=True)

    before: int
    to: int
    state: Literal["begun", "finished"]
    cuts: Mapping[str, tuple[int, ...]] = {}

    @property
    def key(self) -> bytes:
        return b"%d" % self.to


class Parent(NamedTuple):
    """The partition that is read first, up to ``cut``: the first offset that need not be read before."""

    partition: int
    cut: int


class Partitions:
    """Every growth so far, the oldest first."""

    def __init__(self, growths: Iterable[PartitionGrowth] = ()) -> None:
        self.growths = sorted(growths, key=lambda growth: growth.to)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Partitions) and self.growths == other.growths

    __hash__ = None  # type: ignore[assignment]

    @property
    def unfinished(self) -> PartitionGrowth | None:
        return next((growth for growth in self.growths if growth.state == "begun"), None)

    def count(self, existing: int) -> int:
        """How many partitions have channels, of the ``existing``: those of a growth that is not finished have none."""
        finished = [growth.to for growth in self.growths if growth.state == "finished"]
        if finished:
            return finished[-1]
        return self.growths[0].before if self.growths else existing

    def count_at_first(self, existing: int) -> int:
        """How many partitions there were before any growth, which is what topics have that do not grow."""
        return self.growths[0].before if self.growths else existing

    def counts(self, existing: int) -> set[int]:
        """How many partitions there have been at any time, the ``existing`` included."""
        return {existing, *(growth.before for growth in self.growths)}

    def parent(self, topic: str, partition: int) -> Parent | None:
        """What is read before the partition; None for an original one, and for one of a topic that did not grow."""
        for growth in self.growths:
            if growth.before <= partition < growth.to and (cuts := growth.cuts.get(topic)):
                parent = partition % growth.before
                return Parent(parent, cuts[parent])
        return None

    def origin(self, topic: str, partition: int) -> int:
        """The original partition that the channels of this one come from: only those with the same share channels."""
        ancestors = self.ancestors(topic, partition)
        return ancestors[-1].partition if ancestors else partition

    def is_open(self, partition: int) -> bool:
        """Whether it may have channels: not while the growth that adds it is unfinished."""
        return partition < self.count(partition + 1)

    def unread(self, topic: str, partition: int, next_offset: Callable[[int], int]) -> list[Parent]:
        """The ancestors that a reader must read first, who reads on from ``next_offset`` of each partition."""
        return [one for one in self.ancestors(topic, partition) if next_offset(one.partition) < one.cut]

    def ancestors(self, topic: str, partition: int) -> list[Parent]:
        """Where the channels of the partition lived before, the latest first."""
        found: list[Parent] = []
        while (parent := self.parent(topic, partition)) is not None:
            found.append(parent)
            partition = parent.partition
        return found

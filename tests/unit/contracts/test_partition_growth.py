"""Which partition a channel was on before the number of partitions grew."""

from __future__ import annotations

from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.partition_growth import Parent, PartitionGrowth, Partitions
from contracts.partitioner import partition_of

TOPIC = "switchboard.events"
counts = st.lists(st.integers(2, 4), max_size=3).flatmap(
    lambda factors: st.integers(1, 12).map(lambda first: list(accumulate([first, *factors], lambda a, b: a * b)))
)
"""The numbers of partitions one after another, at least one."""


def _grown(counts: list[int]) -> Partitions:
    """The cut of each partition says which growth it is of."""
    return Partitions(
        PartitionGrowth(
            before=before, to=to, state="finished", cuts={TOPIC: tuple(1000 * to + n for n in range(before))}
        )
        for before, to in pairwise(counts)
    )


@given(st.text(min_size=1, max_size=128), counts)
def test_the_ancestors_of_a_channels_home_are_where_it_lived(channel: str, counts: list[int]) -> None:
    partitions = _grown(counts)
    homes = [partition_of(channel, count) for count in counts]
    moves = [
        Parent(old, 1000 * to + old) for (old, new), to in zip(pairwise(homes), counts[1:], strict=True) if old != new
    ]

    assert partitions.ancestors(TOPIC, homes[-1]) == moves[::-1]


@given(counts, st.integers(0, 100))
def test_a_topic_that_did_not_grow_has_no_parents(counts: list[int], partition: int) -> None:
    assert _grown(counts).parent("switchboard.rates", partition) is None
    assert _grown(counts).parent(TOPIC, partition % counts[0]) is None


@given(counts)
def test_partitions_of_an_unfinished_growth_have_no_channels(counts: list[int]) -> None:
    begun = PartitionGrowth(before=counts[-1], to=counts[-1] * 2, state="begun")
    partitions = Partitions([begun, *_grown(counts).growths])

    assert partitions.unfinished == begun
    assert partitions.count(begun.to) == counts[-1]
    assert partitions.parent(TOPIC, counts[-1]) is None


@pytest.mark.parametrize("existing", [1, 8])
def test_without_a_growth_every_partition_has_channels(existing: int) -> None:
    assert Partitions().count(existing) == existing
    assert Partitions().unfinished is None

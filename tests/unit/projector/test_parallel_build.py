"""How the partitions are shared between the processes of a rebuild."""

from __future__ import annotations

import pytest
from aiokafka import TopicPartition

from contracts.partition_growth import PartitionGrowth, Partitions
from services.projector import parallel_build


@pytest.mark.parametrize(
    ("behind", "shares", "expected"),
    [
        ({0: 5, 1: 5, 2: 9}, 2, [[2], [0, 1]]),
        ({0: 1}, 4, [[0]]),
        (dict.fromkeys(range(4), 1), 2, [[0, 2], [1, 3]]),
    ],
)
def test_shares_are_alike(behind: dict[int, int], shares: int, expected: list[list[int]]) -> None:
    assert parallel_build.shares_of(behind, shares) == expected


def test_partitions_that_share_channels_are_built_by_one_process() -> None:
    growths = (
        PartitionGrowth(before=2, to=4, state="finished", cuts={"events": (5, 5)}),
        PartitionGrowth(before=4, to=8, state="finished", cuts={"events": (9, 9, 9, 9)}),
    )
    families = parallel_build.families_of(
        [TopicPartition(topic, number) for topic in ("events", "other") for number in range(8)], Partitions(growths)
    )
    together = {tuple(one.partition for one in several) for several in families.values()}
    assert together == {(0, 2, 4, 6), (1, 3, 5, 7), *((number,) for number in range(8))}

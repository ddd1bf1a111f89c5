"""A partition with one channel."""

from __future__ import annotations

import pytest

from tests.unit.decider.partition import OPEN, REGISTER, Partition, envelope


@pytest.fixture
def partition() -> Partition:
    """One with a channel at version 3 that has an open business system."""
    partition = Partition()
    outcomes = partition.run(envelope(REGISTER, "c1"), envelope(OPEN, "c2"))
    assert [outcome["data"]["version"] for outcome in outcomes] == [1, 3]
    return partition

"""The last record of a partition lies before the transaction markers at its end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition

from services.infrastructure.log_end import last_record

TP = TopicPartition("events", 0)


class Partition:
    """A consumer of one partition, which has records at some offsets and markers at the others."""

    def __init__(self, offsets: list[int], end: int) -> None:
        self._offsets, self._end, self._position = offsets, end, 0

    def assign(self, _: list[TopicPartition]) -> None:
        pass

    def seek(self, _: TopicPartition, offset: int) -> None:
        self._position = offset

    async def position(self, _: TopicPartition) -> int:
        return self._position

    async def getmany(self, _: TopicPartition, *, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
        assert timeout_ms
        found = [SimpleNamespace(offset=offset) for offset in self._offsets if offset >= self._position]
        self._position = self._end
        return {TP: found} if found else {}


@pytest.mark.parametrize(
    ("offsets", "start", "end", "last"),
    [([0, 1, 2], 0, 4, 2), ([0, 5], 0, 1_000, 5), ([0, 5], 6, 1_000, None), ([], 0, 0, None)],
)
async def test_markers_at_the_end_are_passed_over(offsets: list[int], start: int, end: int, last: int | None) -> None:
    record = await last_record(Partition(offsets, end), TP, start, end)
    assert (None if record is None else record.offset) == last


async def test_records_of_others_at_the_end_are_passed_over() -> None:
    partition = Partition([0, *range(3, 500)], 501)
    record = await last_record(partition, TP, 0, 501, lambda record: record.offset < 3)
    assert record is not None
    assert record.offset == 0
    assert await last_record(partition, TP, 0, 501, lambda _: False) is None

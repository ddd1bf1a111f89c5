"""The last record of a partition, which is not the one before its end: transaction markers take offsets too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aiokafka import TopicPartition

_FIRST_WINDOW = 16


async def last_record(
    consumer: Any, tp: TopicPartition, start: int, end: int, is_wanted: Callable[[Any], bool] = lambda _: True
) -> Any | None:
    """The last record in ``[start, end)`` that is wanted; None where there is none, as where only markers are.

    Assigns the partition to the consumer.
    """
    window = _FIRST_WINDOW
    while start < end:
        begin = max(start, end - window)
        consumer.assign([tp])
        consumer.seek(tp, begin)
        last = None
        while await consumer.position(tp) < end:
            for record in (await consumer.getmany(tp, timeout_ms=200)).get(tp, ()):
                last = record if is_wanted(record) else last
        if last is not None or begin == start:
            return last
        window *= 16
    return None


async def last_offsets(consumer: Any, ranges: Mapping[TopicPartition, tuple[int, int]]) -> dict[TopicPartition, int]:
    """The offset of the last record in each range ``[start, end)``, of many partitions at once; those without a record
    are missing. Of a partition that grows meanwhile it may be of a later record.

    Assigns the partitions to the consumer.
    """
    found: dict[TopicPartition, int] = {}
    left = {tp: (start, end) for tp, (start, end) in ranges.items() if start < end}
    window = _FIRST_WINDOW
    while left:
        begins = {tp: max(start, end - window) for tp, (start, end) in left.items()}
        consumer.assign(list(left))
        for tp, begin in begins.items():
            consumer.seek(tp, begin)
        unread = set(left)
        while unread:
            for tp, records in (await consumer.getmany(timeout_ms=200)).items():
                found[tp] = records[-1].offset
            unread = {tp for tp in unread if await consumer.position(tp) < left[tp][1]}
        left = {tp: (left[tp][0], begin) for tp, begin in begins.items() if tp not in found and left[tp][0] < begin}
        window *= 16
    return found

"""The last record of a partition, which is not the one before its end: transaction markers take offsets too."""

from __future__ import annotations

from collections.abc import Callable
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

"""A group's positions: each is the committed offset, with the event's number as its metadata."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiokafka import OffsetAndMetadata, TopicPartition
from aiokafka.errors import KafkaError

from ..cursor import Position
from .log import log

_COMMIT_EVERY_S = 1.0
_RETRY_AFTER_S = 1.0


def to_offset(position: Position) -> OffsetAndMetadata:
    return OffsetAndMetadata(position.offset, "" if position.sequence is None else str(position.sequence))


def position_from(committed: OffsetAndMetadata | None) -> Position | None:
    """None where the group has committed nothing. Metadata that another program wrote is ignored."""
    if committed is None or committed.offset < 0:
        return None
    text = committed.metadata
    return Position(committed.offset, int(text) if text and text.isascii() and text.isdigit() else None)


async def committed_positions(admin: Any, group: str | None) -> Mapping[TopicPartition, Position]:
    """The positions that a group has committed. Raises KafkaError."""
    offsets = await admin.list_consumer_group_offsets(group)
    return {tp: position for tp, one in offsets.items() if (position := position_from(one)) is not None}


async def retried(
    read: Callable[[], Awaitable[None]], is_open: Callable[[], bool], *, raises_lasting: bool = False
) -> None:
    """Retries until it succeeds: aiokafka ignores what its listener raises, and would read from anywhere.

    With ``raises_lasting`` raises a KafkaError that no retry mends.
    """
    while is_open():
        try:
            await read()
        except (KafkaError, OSError) as error:
            if raises_lasting and not getattr(error, "retriable", False):
                raise
            log.warning("the group's positions cannot be read: %s", type(error).__name__)
            await asyncio.sleep(_RETRY_AFTER_S)
        else:
            return


class Commits:
    """What a member has processed and not yet committed."""

    def __init__(self) -> None:
        self.waiting: dict[TopicPartition, Position] = {}
        self._committed_at = 0.0

    @property
    def is_due(self) -> bool:
        return time.monotonic() - self._committed_at > _COMMIT_EVERY_S

    async def commit(self, consumer: Any) -> None:
        """Commits what is of assigned partitions. After a failure the next commit includes it."""
        assigned = consumer.assignment()
        done = {tp: position for tp, position in self.waiting.items() if tp in assigned}
        self._committed_at = time.monotonic()
        if not done:
            return
        try:
            await consumer.commit({tp: to_offset(position) for tp, position in done.items()})
        except KafkaError as error:
            log.info("positions not committed: %s", type(error).__name__)
        else:
            self.waiting.clear()

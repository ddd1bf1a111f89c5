"""Tells a group's member which partitions it has."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from aiokafka import ConsumerRebalanceListener, TopicPartition

from ..cursor import Position

if TYPE_CHECKING:
    from .changes import Changes


class GroupListener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, changes: Changes, starts: dict[TopicPartition, Position], joined: asyncio.Event) -> None:
        self._changes, self._starts, self._joined = changes, starts, joined

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._changes.revoked(revoked)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        await self._changes.assigned(assigned, self._starts)
        self._joined.set()

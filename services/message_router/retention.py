"""Retention: old messages are deleted with their statuses and notices. Usage, counters and rate books stay.

A router deletes those of the partitions that it reads, in small batches under the partition's lock, so that no batch of
requests waits for long.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection

import structlog

from services.infrastructure.postgres import OUTAGES, Pool
from services.message_router.outbox import lock_partitions
from services.message_router.ownership import Ownership

log = structlog.stdlib.get_logger(__name__)

_DAY_MS = 24 * 60 * 60 * 1000
_BATCH = 200
_BETWEEN_BATCHES_S = 0.05
_EVERY_S = 60.0

# What waits for its settings, a status or a timer stays, however old.
_DELETE_OLD = """
    WITH old AS (
        DELETE FROM message_router.messages WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM message_router.messages
            WHERE partition = $1 AND requested_at < $2 AND (state <> 'waiting' OR digest = '') AND next_timer IS NULL
            ORDER BY requested_at LIMIT $3))
        RETURNING channel, account, message
    ), statuses AS (
        DELETE FROM message_router.statuses s USING old
        WHERE s.channel = old.channel AND s.account = old.account AND s.message = old.message
    ), notices AS (
        DELETE FROM message_router.notices n USING old
        WHERE n.channel = old.channel AND n.account = old.account AND n.message = old.message
    )
    SELECT count(*) FROM old
"""


_DELETE_PUBLISHED = "DELETE FROM message_router.published WHERE partition = $1 AND published_at < $2"


class Retention:
    """Runs until cancelled. Messages are kept for ``days`` after their request."""

    def __init__(self, pool: Pool, ownership: Ownership, days: int) -> None:
        self._pool, self._ownership, self._days = pool, ownership, days

    async def run(self) -> None:
        while True:
            try:
                await self.run_once(self._ownership.partitions, time.time_ns() // 1_000_000)
            except OUTAGES as error:
                log.warning("retention waits", reason=type(error).__name__)
            await asyncio.sleep(_EVERY_S)

    async def run_once(self, partitions: Collection[int], now: int) -> None:
        """Deletes what is too old at ``now`` (Unix milliseconds)."""
        before = now - self._days * _DAY_MS
        for partition in partitions:
            await self._pool.execute(_DELETE_PUBLISHED, partition, before)
            deleted = _BATCH
            while deleted == _BATCH:
                deleted = await self._delete(partition, before)
                await asyncio.sleep(_BETWEEN_BATCHES_S)

    async def _delete(self, partition: int, before: int) -> int:
        async with self._pool.acquire() as connection, connection.transaction():
            await lock_partitions(connection, {partition})
            return int(await connection.fetchval(_DELETE_OLD, partition, before, _BATCH))

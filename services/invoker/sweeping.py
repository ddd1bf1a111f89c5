"""What no single delivery brings about: leases that ended, times to live that are over, old entries of the log."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from contracts.invocation import InvocationFailed
from services.infrastructure.postgres import OUTAGES, Pool
from services.invoker import queue
from services.invoker.notifications import Asked, outcome_note
from services.invoker.outbox import tell
from services.invoker.pace import Pace

log = logging.getLogger(__name__)

_AT_ONCE = 500

_LOST = """
    WITH lost AS (
        SELECT id FROM invoker.deliveries WHERE lease IS NOT NULL AND leased_until < now()
        ORDER BY leased_until LIMIT $1 FOR UPDATE SKIP LOCKED
    )
    UPDATE invoker.deliveries d SET lease = NULL, leased_until = NULL, due_at = now()
    FROM lost WHERE d.id = lost.id RETURNING d.*
"""
_UNKNOWN = """
    INSERT INTO invoker.attempts (delivery, number, started_at, key_ids, stage, error)
    SELECT delivery, number, started_at, '{}', 'unknown', 'the worker was lost before it could tell what came of it'
    FROM unnest($1::text[], $2::int[], $3::timestamptz[]) AS a(delivery, number, started_at)
    ON CONFLICT DO NOTHING
"""
_EXPIRED = """
    WITH expired AS (
        SELECT id FROM invoker.deliveries
        WHERE state IN ('waiting', 'due', 'parked') AND expires_at <= now() AND lease IS NULL
        ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED
    )
    UPDATE invoker.deliveries d SET state = 'dead', reason = 'TimeToLiveOver', ended_at = now()
    FROM expired WHERE d.id = expired.id RETURNING d.*
"""
_OLD = """
    WITH old AS (
        DELETE FROM invoker.deliveries WHERE id IN (
            SELECT id FROM invoker.deliveries WHERE ended_at < now() - $1::interval ORDER BY ended_at LIMIT $2
            FOR UPDATE SKIP LOCKED
        ) RETURNING id
    ), attempts AS (DELETE FROM invoker.attempts a USING old WHERE a.delivery = old.id)
    SELECT count(*) FROM old
"""
_TALLY = """
    INSERT INTO invoker.tallies AS t SELECT * FROM unnest($1::text[], $2::bigint[])
    ON CONFLICT (name) DO UPDATE SET total = t.total + excluded.total
"""


async def free_lost(pool: Pool) -> int:
    """Deliveries whose worker is gone are due again; the log shows an attempt of which nothing is known."""
    async with pool.acquire() as connection, connection.transaction():
        rows = await connection.fetch(_LOST, _AT_ONCE)
        if rows:
            await connection.execute(
                _UNKNOWN,
                [row["id"] for row in rows],
                [row["attempts"] for row in rows],
                [row["claimed_at"] for row in rows],
            )
            now = datetime.now(UTC)
            await queue.wake(connection, [queue.Wake(row["channel"], row["system"], row["lane"], now) for row in rows])
    return len(rows)


async def end_expired(pool: Pool) -> int:
    """What waits beyond its time to live, for a retry or for its system to be enabled, is dead, and told so."""
    async with pool.acquire() as connection, connection.transaction():
        rows = await connection.fetch(_EXPIRED, _AT_ONCE)
        notes = [
            outcome_note(
                Asked.of(row),
                InvocationFailed(
                    system=row["system"],
                    code=row["code"],
                    delivery=row["id"],
                    status="dead",
                    attempts=row["attempts"],
                    key_id=row["key_id"],
                    reason="TimeToLiveOver",
                    message=f"Its time to live was over after {row['attempts']} attempts.",
                ),
            )
            for row in rows
        ]
        await tell(connection, notes)
    return len(rows)


async def forget_old(pool: Pool, days: int) -> int:
    """Deletes what ended longer ago, with its attempts; what waits or is parked stays, however old."""
    return int(await pool.fetchval(_OLD, timedelta(days=days), _AT_ONCE))


class Sweeper:
    """Runs until cancelled; several may run at once. ``tallies`` are added up in the database and emptied."""

    def __init__(self, pool: Pool, pace: Pace, tallies: Counter[str], changed: Callable[[], None]) -> None:
        self._pool, self._pace, self._tallies, self._changed = pool, pace, tallies, changed

    async def run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._pace.database):
                    busy = await self._sweep()
            except OUTAGES as error:
                log.debug("sweeping waits for the database (%s)", type(error).__name__)
                busy = False
            if busy:
                self._changed()
            await asyncio.sleep(0.05 if busy else 1)

    async def _sweep(self) -> bool:
        freed = await free_lost(self._pool)
        if freed:
            log.warning("%d deliveries of a lost worker are due again", freed)
        expired = await end_expired(self._pool)
        self._tallies["dead"] += expired
        self._tallies["lost"] += freed
        forgotten = await forget_old(self._pool, self._pace.keep_days)
        await self.flush()
        return _AT_ONCE in (freed, expired, forgotten) or freed + expired > 0

    async def flush(self) -> None:
        taken = {name: count for name, count in self._tallies.items() if count}
        self._tallies.clear()
        if taken:
            try:
                await self._pool.execute(_TALLY, list(taken), list(taken.values()))
            except BaseException:
                self._tallies.update(taken)
                raise

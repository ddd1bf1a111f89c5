"""Periodic work on the queue: leases that ended, times to live that are over, retention and quotas."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog

from contracts.invocation import InvocationFailed
from services.infrastructure.postgres import OUTAGES, Pool
from services.invoker.limits import Limits
from services.invoker.outbox.notifications import outcome_record
from services.invoker.outbox.records import OutboxRecord, add_to_outbox
from services.invoker.queue.delivery import DELIVERY_COLUMNS, Delivery, delivery_of
from services.invoker.queue.listeners import forget_listeners
from services.invoker.queue.rate_of_test_calls import forget_test_calls
from services.invoker.queue.scheduling import Wake, wake
from services.invoker.queue.storage import add_up_stored_bytes, delete_beyond_quota

log = structlog.stdlib.get_logger(__name__)

_BATCH = 500
_IDLE_S = 1.0
_BUSY_S = 0.05

_RELEASE_LOST = """
    WITH lost AS (
        SELECT id FROM invoker.deliveries WHERE lease IS NOT NULL AND leased_until < now()
        ORDER BY leased_until LIMIT $1 FOR UPDATE SKIP LOCKED
    )
    UPDATE invoker.deliveries d SET lease = NULL, leased_until = NULL, due_at = now()
    FROM lost WHERE d.id = lost.id RETURNING d.id, d.channel, d.system, d.lane, d.attempts, d.claimed_at
"""
_ADD_UNKNOWN_ATTEMPTS = """
    INSERT INTO invoker.attempts (delivery, number, started_at, key_ids, stage, error)
    SELECT delivery, number, started_at, '{}', 'unknown', 'the worker was lost; the result of the call is unknown'
    FROM unnest($1::text[], $2::int[], $3::timestamptz[]) AS a(delivery, number, started_at)
    ON CONFLICT DO NOTHING
"""
_EXPIRE = f"""
    WITH expired AS (
        SELECT id FROM invoker.deliveries
        WHERE state IN ('waiting', 'due', 'parked') AND expires_at <= now() AND lease IS NULL
        ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED
    )
    UPDATE invoker.deliveries d SET state = 'dead', reason = 'TimeToLiveOver', ended_at = now()
    FROM expired WHERE d.id = expired.id RETURNING {DELIVERY_COLUMNS}
"""  # noqa: S608 -- a constant of ours
_DELETE_OLD = """
    WITH old AS (
        DELETE FROM invoker.deliveries WHERE id IN (
            SELECT id FROM invoker.deliveries WHERE ended_at < now() - $1::interval ORDER BY ended_at LIMIT $2
            FOR UPDATE SKIP LOCKED
        ) RETURNING id, account, stored_bytes
    ), attempts AS (DELETE FROM invoker.attempts a USING old WHERE a.delivery = old.id), counted AS (
        INSERT INTO invoker.stored_bytes_changes SELECT account, -sum(stored_bytes) FROM old GROUP BY account
    )
    SELECT count(*) FROM old
"""
_ADD_COUNTERS = """
    INSERT INTO invoker.counters AS t SELECT * FROM unnest($1::text[], $2::bigint[])
    ON CONFLICT (name) DO UPDATE SET total = t.total + excluded.total
"""


async def release_lost_leases(pool: Pool) -> int:
    """Deliveries whose worker is gone are due again; the delivery log gets an attempt with an unknown result."""
    async with pool.acquire() as connection, connection.transaction():
        rows = await connection.fetch(_RELEASE_LOST, _BATCH)
        if rows:
            await connection.execute(
                _ADD_UNKNOWN_ATTEMPTS,
                [row["id"] for row in rows],
                [row["attempts"] for row in rows],
                [row["claimed_at"] for row in rows],
            )
            now = datetime.now(UTC)
            await wake(connection, [Wake(row["channel"], row["system"], row["lane"], now) for row in rows])
    return len(rows)


async def end_expired(pool: Pool) -> int:
    """Deliveries that still wait when their time to live is over are dead, and their requesters are notified."""
    async with pool.acquire() as connection, connection.transaction():
        rows = await connection.fetch(_EXPIRE, _BATCH)
        await add_to_outbox(connection, [_expiry_record(delivery_of(row)) for row in rows])
    return len(rows)


def _expiry_record(delivery: Delivery) -> OutboxRecord:
    outcome = InvocationFailed(
        system=delivery.system,
        code=delivery.code,
        delivery=delivery.id,
        status="dead",
        attempts=delivery.attempts,
        test=delivery.test,
        key_id=delivery.key_id,
        reason="TimeToLiveOver",
        message=f"Its time to live was over after {delivery.attempts} attempts.",
    )
    return outcome_record(delivery.requester, outcome)


async def delete_old(pool: Pool, days: int) -> int:
    """Deletes deliveries that ended longer ago, with their attempts; those that have not ended stay, however old."""
    return int(await pool.fetchval(_DELETE_OLD, timedelta(days=days), _BATCH))


class Sweeper:
    """Runs until cancelled; several may run at once. Adds ``counters`` to the database's totals and resets them.

    ``on_due`` is called when deliveries may have become due or ended.
    """

    def __init__(self, pool: Pool, limits: Limits, counters: Counter[str], on_due: Callable[[], None]) -> None:
        self._pool, self._limits, self._counters, self._on_due = pool, limits, counters, on_due

    async def run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._limits.transaction_timeout):
                    found = await self._sweep()
            except OUTAGES as error:
                log.debug("sweeper waits for the database", reason=type(error).__name__)
                found = False
            if found:
                self._on_due()
            await asyncio.sleep(_BUSY_S if found else _IDLE_S)

    async def _sweep(self) -> bool:
        """Returns whether more may be left, or deliveries changed."""
        released = await release_lost_leases(self._pool)
        if released:
            log.warning("deliveries of a lost worker are due again", deliveries=released)
        expired = await end_expired(self._pool)
        self._counters["dead"] += expired
        self._counters["lost"] += released
        deleted = await delete_old(self._pool, self._limits.retention_days)
        await add_up_stored_bytes(self._pool)
        await forget_test_calls(self._pool)
        await forget_listeners(self._pool)
        trimmed = await delete_beyond_quota(self._pool, self._limits.max_stored_bytes)
        if trimmed:
            log.info("deliveries are deleted before their time: their accounts store too much", deliveries=trimmed)
        await self.flush_counters()
        return deleted == _BATCH or released + expired + trimmed > 0

    async def flush_counters(self) -> None:
        counts = {name: count for name, count in self._counters.items() if count}
        self._counters.clear()
        if counts:
            try:
                await self._pool.execute(_ADD_COUNTERS, list(counts), list(counts.values()))
            except BaseException:
                self._counters.update(counts)
                raise

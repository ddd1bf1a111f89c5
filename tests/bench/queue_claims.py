"""How fast the queue of the invoker alone gives out work: with little in it, and beside a million that are not due."""

from __future__ import annotations

import time
from datetime import timedelta
from statistics import median
from typing import Any

import asyncpg

from services.infrastructure.postgres import Pool, migrate
from services.invoker.limits import DEFAULT_LIMITS
from services.invoker.queue import claiming
from services.invoker.service import MIGRATIONS
from tests.bench.testbed import Testbed

_SYSTEMS = 1_000
_CONCURRENCY = 64
_ADD = """
    INSERT INTO invoker.deliveries
        (id, account, channel, request_id, correlation_id, system, code, request, state, body, due_at)
    SELECT id, 'bench', 'queue-' || number % $3, id, id, 'crm', 'ORDER', '{}', 'due', '{}', now() + $4::interval
    FROM (SELECT $1 || number AS id, number FROM generate_series(1, $2::int) AS number) AS n
"""
_LINES = """
    INSERT INTO invoker.queues SELECT channel, system, lane, min(due_at) FROM invoker.deliveries WHERE state = 'due'
    GROUP BY channel, system, lane
    ON CONFLICT (channel, system, lane) DO UPDATE SET wake_at = least(queues.wake_at, excluded.wake_at)
"""


async def claim_rates(testbed: Testbed) -> dict[str, Any]:
    """Claims a second in batches of what one invoker takes at once, by what lies in the queue."""
    few, many, systems = testbed.scaled(20_000), testbed.scaled(1_000_000), testbed.scaled(_SYSTEMS)
    found: dict[str, Any] = {}
    async with asyncpg.create_pool(testbed.dsn, min_size=1, max_size=2, command_timeout=600) as pool:
        await migrate(pool, "invoker", MIGRATIONS)
        await pool.execute("TRUNCATE invoker.deliveries, invoker.attempts, invoker.queues, invoker.circuits")
        await _add(pool, "few-", few, systems, timedelta(0))
        found[f"claims/s, {few:,} due"] = await _rate(pool, few)
        await pool.execute("TRUNCATE invoker.deliveries, invoker.queues")
        await _add(pool, "later-", many, systems, timedelta(days=1))
        await _add(pool, "now-", few, systems, timedelta(0))
        found[f"claims/s, {few:,} due beside {many:,} that are not"] = await _rate(pool, few)
        await _add(pool, "many-", many, systems, timedelta(0))
        found[f"claims/s, {many:,} due beside as many that are not"] = await _rate(pool, few)
    return found


async def _add(pool: Pool, prefix: str, count: int, systems: int, wait: timedelta) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL synchronous_commit = off")
        await connection.execute(_ADD, prefix, count, systems, wait)
        await connection.execute(_LINES)
    await pool.execute("ANALYZE invoker.deliveries")
    await pool.execute("ANALYZE invoker.queues")


async def _rate(pool: Pool, count: int) -> int:
    """The median over batches, in claims a second; the claimed end at once, as calls would."""
    rates: list[float] = []
    taken = 0
    while taken < count * 0.9:
        started = time.perf_counter()
        rows = await claiming.claim(pool, "first", {}, _CONCURRENCY, DEFAULT_LIMITS)
        rates.append(len(rows) / (time.perf_counter() - started))
        taken += len(rows)
        if not rows:
            raise RuntimeError(f"nothing more was claimed after {taken:,}")
    return round(median(rates))

"""Times to live and retention of the delivery log, on a real database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from services.infrastructure.postgres import Pool
from services.invoker.queue.sweeper import delete_old, end_expired
from tests.queue_database import add, queue_pool, states


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with queue_pool(database_url) as made:
        yield made


async def test_a_time_to_live_ends_a_delivery_in_any_waiting_state(pool: Pool) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    for state in ("due", "parked", "waiting"):
        await add(pool, state, 2, state=state, expires_at=past)
    await add(pool, "later", 1, expires_at=past + timedelta(hours=1))
    assert await end_expired(pool) == 6
    assert sorted((await states(pool)).values()) == ["dead"] * 6 + ["due"]
    assert await pool.fetchval("SELECT count(*) FROM invoker.outbox") == 6


async def test_retention_deletes_ended_deliveries_only(pool: Pool) -> None:
    for state in ("delivered", "dead", "due", "parked"):
        await add(pool, state, 2, state=state)
    await pool.execute(
        "UPDATE invoker.deliveries SET created_at = now() - interval '90 days', "
        "ended_at = CASE WHEN state IN ('delivered', 'dead') THEN now() - interval '31 days' END"
    )
    await pool.execute(
        "INSERT INTO invoker.attempts (delivery, number, started_at, key_ids) "
        "SELECT id, 1, now(), '{}' FROM invoker.deliveries"
    )
    assert await delete_old(pool, 32) == 0
    assert await delete_old(pool, 30) == 4
    assert sorted((await states(pool)).values()) == ["due", "due", "parked", "parked"]
    assert await pool.fetchval("SELECT count(*) FROM invoker.attempts") == 4

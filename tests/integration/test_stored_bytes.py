"""Bytes of an account's deliveries: counted exactly, deleted from the oldest, refused where nothing can go."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from services.infrastructure.postgres import Pool
from services.invoker.delivery_log import is_over_quota
from services.invoker.limits import Limits
from services.invoker.queue.claiming import claim
from services.invoker.queue.storage import add_up_stored_bytes, delete_beyond_quota
from services.invoker.queue.sweeper import Sweeper, delete_old
from services.invoker.requests.ingest import Ingest
from services.invoker.results.retry_policy import Answered
from services.schema_validation.validator import SchemaValidator
from tests.ingest_database import Record, apply, ingest_pool, outcomes, request
from tests.queue_database import record_all, result_of

LIMITS = Limits()


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with ingest_pool(database_url) as made:
        yield made


async def counted(pool: Pool) -> int:
    await add_up_stored_bytes(pool)
    return int(await pool.fetchval("SELECT coalesce(sum(bytes), 0) FROM invoker.stored_bytes"))


async def really_stored(pool: Pool) -> int:
    """As the database has it: each request, body and answer."""
    return int(
        await pool.fetchval(
            "SELECT coalesce((SELECT sum(octet_length(request::text) + coalesce(octet_length(body), 0)) "
            "FROM invoker.deliveries), 0) + coalesce((SELECT sum(octet_length(answer)) FROM invoker.attempts), 0)"
        )
    )


async def age(pool: Pool, days: float) -> None:
    """As if every delivery had come and ended so long ago."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "UPDATE invoker.attempts SET delivery = '00000000-0000-7' || substr(delivery, 16) "
            "WHERE delivery IN (SELECT id FROM invoker.deliveries WHERE ended_at IS NOT NULL)"
        )
        await connection.execute(
            "UPDATE invoker.deliveries SET ended_at = ended_at - $1::interval, "
            "id = '00000000-0000-7' || substr(id, 16) WHERE ended_at IS NOT NULL",
            timedelta(days=days),
        )


def big(request_id: str, size: int = 1_000) -> Record:
    return request(request_id, data={"data": {"text": "x" * size}})


async def ingest(pool: Pool, limits: Limits, *records: Record) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await Ingest(SchemaValidator(), limits=limits).apply(connection, 3, records)


async def test_what_is_counted_is_what_is_stored(pool: Pool) -> None:
    await apply(pool, big("r1"), big("r1"), request("r2"), request("r3", code="UNKNOWN"))
    assert await counted(pool) == await really_stored(pool) > 1_000
    first, second = await claim(pool, "first", {}, 10, LIMITS)
    await record_all(pool, result_of(first, Answered(200, b"o" * 500)))
    await record_all(pool, result_of(second, Answered(500, b"e" * 700), wait_s=-1))
    assert await counted(pool) == await really_stored(pool) > 2_000
    [again] = await claim(pool, "retry", {}, 10, LIMITS)
    await record_all(pool, result_of(again, Answered(500, b"f" * 300)))
    assert await counted(pool) == await really_stored(pool)
    await age(pool, 40)
    assert await delete_old(pool, 30) == 1
    assert await counted(pool) == await really_stored(pool) > 0


async def test_near_the_quota_the_oldest_ended_deliveries_go_and_no_others(pool: Pool) -> None:
    await apply(pool, *(big(f"old-{number}") for number in range(3)))
    deliveries = await claim(pool, "first", {}, 10, LIMITS)
    await record_all(pool, *(result_of(delivery, Answered(200, b"ok")) for delivery in deliveries))
    await age(pool, 2)
    await apply(pool, *(big(f"new-{number}") for number in range(3)))
    recent = (await claim(pool, "first", {}, 1, LIMITS))[0]
    await record_all(pool, result_of(recent, Answered(200, b"ok")))
    before = await counted(pool)

    assert await delete_beyond_quota(pool, before * 2) == 0
    assert await delete_beyond_quota(pool, before) == 3

    left = Counter(row["request_id"][:3] for row in await pool.fetch("SELECT request_id FROM invoker.deliveries"))
    assert left == {"new": 3}, "what ended within a day keeps its id, and what has not ended stays"
    assert await counted(pool) == await really_stored(pool)
    assert await delete_beyond_quota(pool, 1) == 0


async def test_the_sweeper_deletes_beyond_the_quota(pool: Pool) -> None:
    await apply(pool, big("r1"))
    [delivery] = await claim(pool, "first", {}, 10, LIMITS)
    await record_all(pool, result_of(delivery, Answered(200, b"ok")))
    await age(pool, 2)
    sweeper = Sweeper(pool, replace(LIMITS, max_stored_bytes=100), Counter(), lambda: None)
    assert await sweeper._sweep()
    assert await really_stored(pool) == 0


async def test_new_requests_are_refused_over_the_quota_and_repeated_ones_are_not(pool: Pool) -> None:
    limits = replace(LIMITS, max_stored_bytes=1_000)
    await ingest(pool, limits, big("r1"))
    assert await counted(pool) > 1_000
    assert await is_over_quota(pool, "acme", 1_000)
    assert not await is_over_quota(pool, "bolt", 1_000)

    await ingest(pool, limits, big("r1"), big("r2"), big("r2"), request("r3"))

    told = [(one["causationid"], one["data"]["reason"]) for one in await outcomes(pool)]
    assert told == [("r2", "DeliveryQuotaExceeded"), ("r3", "DeliveryQuotaExceeded")]
    assert [row["request_id"] for row in await pool.fetch("SELECT request_id FROM invoker.deliveries")] == ["r1"]

    await pool.execute("UPDATE invoker.stored_bytes SET bytes = 0")
    await ingest(pool, limits, request("r3"))
    assert await pool.fetchval("SELECT count(*) FROM invoker.deliveries") == 2
    ids = [one["id"] for one in await outcomes(pool)]
    assert len(set(ids)) == len(ids)
    assert "acme/ch/r3/outcome" not in ids, "the accepted request has its own outcome"

"""Requests that are leased as they come in, on a real database, without a broker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta

import asyncpg
import pytest

from services.infrastructure.postgres import Pool
from services.invoker.limits import Limits
from services.invoker.queue.claiming import claim
from services.invoker.queue.concurrency import ConcurrencyLimiter
from services.invoker.queue.delivery import DELIVERY_COLUMNS, Delivery, delivery_of
from services.invoker.requests.ingest import Ingest
from services.schema_validation.validator import SchemaValidator
from tests.ingest_database import Record, ingest_pool, request, rows


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with ingest_pool(database_url) as made:
        yield made


class RecordedCalls:
    """Collects the deliveries that it is to call."""

    def __init__(self, limits: Limits) -> None:
        self.concurrency = ConcurrencyLimiter(limits)
        self.deliveries: list[Delivery] = []

    def start_leased(self, deliveries: Sequence[Delivery]) -> None:
        self.deliveries += deliveries


async def lease(pool: Pool, calls: RecordedCalls, *records: Record, commit: bool = True) -> None:
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        done = await Ingest(SchemaValidator(), calls, LIMITS).apply(connection, 3, records)
        await (transaction.commit() if commit else transaction.rollback())
        if done is not None:
            done(commit)


LIMITS = Limits(max_calls_per_system=3, ingest_wait=0.05)


async def claimed(pool: Pool) -> list[str]:
    return [delivery.request_id for delivery in await claim(pool, "first", {}, 100, Limits())]


async def test_a_request_with_a_slot_is_leased_at_once_and_one_without_waits(pool: Pool) -> None:
    calls = RecordedCalls(LIMITS)
    names = [f"r{number}" for number in range(5)]
    await lease(pool, calls, *(request(name) for name in names[:4]), request("r0"))
    await lease(pool, calls, request(names[4]))
    assert [delivery.request_id for delivery in calls.deliveries] == names[:3]
    found = await rows(pool)
    for delivery in calls.deliveries:
        row = found[delivery.request_id]
        [stored] = await pool.fetch(f"SELECT {DELIVERY_COLUMNS} FROM invoker.deliveries d WHERE id = $1", delivery.id)  # noqa: S608
        assert delivery_of(stored) == delivery
        assert (row["attempts"], row["state"]) == (1, "due")
        assert row["leased_until"] - row["claimed_at"] == timedelta(seconds=LIMITS.lease_duration)
    assert calls.concurrency.in_flight == 3
    assert await claimed(pool) == names[3:]


async def test_a_repeated_request_takes_no_slot_and_a_leased_one_wakes_no_queue(pool: Pool) -> None:
    calls = RecordedCalls(LIMITS)
    await lease(pool, calls, request("r1"), request("r1"))
    await lease(pool, calls, request("r1"))
    assert (len(calls.deliveries), calls.concurrency.in_flight) == (1, 1)
    assert await pool.fetchval("SELECT count(*) FROM invoker.queues") == 0


async def test_a_free_slot_goes_to_deliveries_that_wait(pool: Pool) -> None:
    calls = RecordedCalls(LIMITS)
    await lease(pool, calls, *(request(f"r{number}") for number in range(4)))
    calls.concurrency.release(("ch", "crm"), "first")
    await lease(pool, calls, request("late"))
    assert len(calls.deliveries) == 3
    assert await claimed(pool) == ["r3", "late"]


@pytest.mark.parametrize(
    "hindrance",
    [
        "INSERT INTO invoker.circuits (channel, system, failures) VALUES ('ch', 'crm', 1)",
        "INSERT INTO invoker.queues VALUES ('ch', 'crm', 'first', now())",
        "UPDATE invoker.business_systems SET disabled = true",
        "UPDATE invoker.business_systems SET verified_at = NULL",
        "DELETE FROM invoker.intents",
    ],
)
async def test_a_request_with_a_hindrance_is_not_leased(pool: Pool, hindrance: str) -> None:
    calls = RecordedCalls(LIMITS)
    await pool.execute(hindrance)
    await lease(pool, calls, request("r1"))
    assert (calls.deliveries, calls.concurrency.in_flight) == ([], 0)
    assert (await rows(pool))["r1"]["lease"] is None


async def test_a_request_whose_time_is_over_is_not_leased(pool: Pool) -> None:
    calls = RecordedCalls(LIMITS)
    await lease(pool, calls, replace(request("r1", data={"ttl_seconds": 60}), timestamp=0))
    assert (calls.deliveries, calls.concurrency.in_flight) == ([], 0)


async def test_a_test_call_waits_in_its_own_queue(pool: Pool) -> None:
    calls = RecordedCalls(LIMITS)
    record = request("r1", kind="MakeTestCall")
    await lease(pool, calls, Record((record.value or b"").replace(b', "code": "ORDER"', b"")))
    assert calls.deliveries == []
    assert len(await claim(pool, "test", {}, 10, LIMITS)) == 1


async def test_a_request_that_is_not_committed_is_not_called_and_releases_its_slot(pool: Pool) -> None:
    calls = RecordedCalls(LIMITS)
    await lease(pool, calls, request("r1"), commit=False)
    await pool.execute("ALTER TABLE invoker.deliveries ADD CHECK (request_id <> 'bad')")
    with pytest.raises(asyncpg.CheckViolationError):
        await lease(pool, calls, request("r1"), request("bad"))
    assert (calls.deliveries, calls.concurrency.in_flight) == ([], 0)


async def test_no_request_overtakes_deliveries_that_wait_for_slots(pool: Pool) -> None:
    calls = RecordedCalls(LIMITS)
    calls.concurrency.saturated = True
    await lease(pool, calls, request("r1"))
    assert calls.deliveries == []
    assert await claimed(pool) == ["r1"]

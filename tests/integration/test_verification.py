"""A system is called now and then until it has answered 2xx at its present URL, on a real database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from contracts.business_system import BusinessSystemEdited
from contracts.envelope import GENESIS, EventEnvelope
from services.infrastructure.postgres import Pool
from services.invoker.delivery_log import system_health
from services.invoker.queue.claiming import claim
from services.invoker.queue.delivery import Delivery
from services.invoker.results.attempt import Attempt, DeliveryResult
from services.invoker.results.retry_policy import Answered, Delivered, Postponed
from services.invoker.settings_replica.event_handlers import apply_events
from tests.ingest_database import Record
from tests.queue_database import ENDPOINT, FAILED, LIMITS, add, queue_pool, record_all, result_of

OK = Answered(200, b"")


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with queue_pool(database_url) as made:
        yield made


async def claimed(pool: Pool, in_flight: int = 0) -> list[Delivery]:
    return await claim(pool, "first", {("ch", "crm"): in_flight} if in_flight else {}, 100, LIMITS)


async def let_time_pass(pool: Pool) -> None:
    await pool.execute(
        "UPDATE invoker.business_systems SET next_call_at = next_call_at - $1 * interval '1 second'",
        LIMITS.unverified_interval,
    )


async def is_verified(pool: Pool) -> bool:
    health = await system_health(pool, "acme", "ch", "crm")
    assert health is not None
    return health["verified_at"] is not None


async def edit(pool: Pool, url: str | None) -> None:
    event = BusinessSystemEdited(system="crm", **({"name": "CRM"} if url is None else {"api_request_url": url}))
    envelope = {
        "specversion": "1.0",
        "id": "e-1",
        "type": type(event).__name__,
        "source": "tests",
        "subject": "ch",
        "time": "2026-01-01T00:00:00.000Z",
        "datacontenttype": "application/json",
        "accountid": "acme",
        "sequence": 8,
        "partitionsequence": 8,
        "previoushash": GENESIS,
        "causationid": "c-1",
        "correlationid": "c-1",
        "actor": "anna",
        "resource": event.resource,
        "data": event.model_dump(exclude_unset=True),
    }
    value = EventEnvelope.model_validate(envelope).model_dump_json().encode()
    async with pool.acquire() as connection, connection.transaction():
        await apply_events(connection, 0, [Record(value)])


async def test_an_unverified_system_is_called_one_call_at_a_time_and_with_a_pause(pool: Pool) -> None:
    await add(pool, "crm", 20, verified=False)
    await add(pool, "erp", 20)

    rows = await claim(pool, "first", {}, 100, LIMITS)
    assert sorted(delivery.system for delivery in rows) == ["crm", *["erp"] * LIMITS.max_calls_per_system]
    [first] = [delivery for delivery in rows if delivery.system == "crm"]
    await let_time_pass(pool)
    assert await claim(pool, "first", {("ch", "crm"): 1, ("ch", "erp"): LIMITS.max_calls_per_system}, 100, LIMITS) == []
    await pool.execute("UPDATE invoker.business_systems SET next_call_at = now() + interval '6 s' WHERE system = 'crm'")
    await record_all(pool, result_of(first, FAILED))
    assert [delivery.system for delivery in await claimed(pool)].count("crm") == 0
    await let_time_pass(pool)
    assert [delivery.system for delivery in await claimed(pool)].count("crm") == 1


@pytest.mark.parametrize("beside", [[], [FAILED]], ids=["alone", "beside a failure"])
async def test_the_first_2xx_verifies_it(pool: Pool, beside: list[Answered]) -> None:
    await add(pool, "crm", 20, verified=False)
    [first] = await claimed(pool)
    others = []
    if beside:
        await let_time_pass(pool)
        others = await claimed(pool)
    assert not await is_verified(pool)

    await record_all(pool, result_of(first, OK), *(result_of(one, FAILED) for one in others))

    assert await is_verified(pool)
    await pool.execute("DELETE FROM invoker.circuits")
    assert len(await claimed(pool)) == LIMITS.max_calls_per_system


async def test_a_success_at_an_earlier_url_does_not_verify_the_present_one(pool: Pool) -> None:
    await add(pool, "crm", 20, verified=False)
    [first] = await claimed(pool)
    await edit(pool, "https://new.example/")
    await let_time_pass(pool)
    [second] = await claimed(pool)

    await let_time_pass(pool)
    [failing] = await claimed(pool)

    await record_all(pool, result_of(first, OK))
    await record_all(pool, result_of(second, OK), result_of(failing, FAILED))
    assert not await is_verified(pool)

    await let_time_pass(pool)
    [third] = await claimed(pool)
    at_new = replace(ENDPOINT, api_request_url="https://new.example/")
    await record_all(pool, DeliveryResult(third, Delivered(None), Attempt(at_new, datetime.now(UTC), 5, OK)))
    assert await is_verified(pool)


async def test_an_edit_of_its_url_makes_it_unverified_and_another_edit_does_not(pool: Pool) -> None:
    await add(pool, "crm", 20)
    assert await is_verified(pool)
    await edit(pool, None)
    await edit(pool, "https://crm.example/")
    assert await is_verified(pool)
    await edit(pool, "https://new.example/")
    assert not await is_verified(pool)
    assert len(await claimed(pool)) == 1


async def test_a_delivery_that_was_not_called_makes_no_pause(pool: Pool) -> None:
    """Its signatures were not there yet, say: the first call of a new system need not wait for that."""
    await add(pool, "crm", 2, verified=False)
    [first] = await claimed(pool)
    assert await claimed(pool) == []
    await record_all(pool, DeliveryResult(first, Postponed(datetime.now(UTC))))
    assert len(await claimed(pool)) == 1


async def test_a_test_call_is_not_held_up(pool: Pool) -> None:
    await add(pool, "crm", 2, verified=False)
    await add(pool, "crm", 3, test=True, state="due", prefix="test")
    assert len(await claimed(pool)) == 1
    assert len(await claim(pool, "test", {}, 10, LIMITS)) == 3


async def test_health_is_shown_to_its_account_only(pool: Pool) -> None:
    await add(pool, "crm", 1, verified=False)
    [delivery] = await claimed(pool)
    await record_all(pool, result_of(delivery, FAILED))
    shown = await system_health(pool, "acme", "ch", "crm")
    assert shown is not None
    assert (shown["verified_at"], shown["failures"], shown["circuit_open_until"]) == (None, 1, None)
    assert shown["failing_since"] is not None
    assert await system_health(pool, None, "ch", "crm") == shown
    assert await system_health(pool, "bolt", "ch", "crm") is None

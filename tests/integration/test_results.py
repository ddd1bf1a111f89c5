"""Results of leased deliveries, recorded on a real database, without a broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from services.infrastructure.postgres import Pool
from services.invoker.delivery_log import DeliveryFilter, accepted_signatures, list_deliveries, replay
from services.invoker.queue import scheduling
from services.invoker.queue.claiming import claim
from services.invoker.queue.sweeper import release_lost_leases
from services.invoker.results.attempt import Attempt, DeliveryResult
from services.invoker.results.record_results import record_results
from services.invoker.results.recorder import Recorder
from services.invoker.results.retry_policy import (
    Answered,
    CallResult,
    Failed,
    GaveUp,
    Parked,
    Postponed,
)
from tests.queue_database import ENDPOINT, FAILED, LIMITS, add, queue_pool, record_all, result_of, states


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with queue_pool(database_url) as made:
        yield made


async def test_a_worker_whose_lease_ended_changes_nothing(pool: Pool) -> None:
    await add(pool, "crm", 1)
    [late] = await claim(pool, "first", {}, 10, LIMITS)
    await pool.execute("UPDATE invoker.deliveries SET leased_until = now() - interval '1 second'")
    assert await release_lost_leases(pool) == 1
    [row] = await claim(pool, "retry", {}, 10, LIMITS)
    assert await record_all(pool, result_of(late, FAILED)) == []
    assert len(await record_all(pool, result_of(row, Answered(200, b"")))) == 1
    assert await record_all(pool, result_of(late, Answered(200, b""))) == []
    [shown] = await list_deliveries(pool, DeliveryFilter(), 10)
    assert [(one["number"], one["stage"], one["status"]) for one in shown["attempt_log"]] == [
        (1, "unknown", None),
        (2, None, 200),
    ]
    assert await pool.fetchval("SELECT count(*) FROM invoker.outbox") == 1


async def test_successes_are_recorded_with_all_their_effects(pool: Pool) -> None:
    for system in ("crm", "erp"):
        await add(pool, system, 2)
        await pool.execute("INSERT INTO invoker.signatures VALUES ('ch', $1, 'k1', 1)", system)
        await pool.execute("INSERT INTO invoker.circuits (channel, system) VALUES ('ch', $1)", system)
    rows = await claim(pool, "first", {}, 10, LIMITS)
    lost, *leased = sorted(rows, key=lambda delivery: delivery.id)
    await pool.execute("UPDATE invoker.deliveries SET lease = gen_random_uuid() WHERE id = $1", lost.id)
    async with pool.acquire() as connection:
        recorded = await record_results(connection, [result_of(row, Answered(204, b"{}")) for row in rows], LIMITS)
    assert sorted(result.delivery.id for result in recorded.results) == [delivery.id for delivery in leased]
    assert await states(pool) == {lost.id: "due"} | {delivery.id: "delivered" for delivery in leased}
    attempts = await pool.fetch("SELECT * FROM invoker.attempts ORDER BY delivery")
    assert [(one["delivery"], one["number"]) for one in attempts] == [(delivery.id, 1) for delivery in leased]
    assert {(one["status"], one["answer"], *one["key_ids"], one["accepted_key_id"]) for one in attempts} == {
        (204, b"{}", "k1", "k1")
    }
    outcomes = await pool.fetch("SELECT *, reserved_until > now() AS reserved FROM invoker.outbox ORDER BY id")
    assert (sorted(recorded.outbox_ids), {one["reserved"] for one in outcomes}) == (
        [one["id"] for one in outcomes],
        {True},
    )
    assert sorted(record.value or b"" for record in recorded.outbox_records) == sorted(one["value"] for one in outcomes)
    assert {(one["topic"], one["key"], *one["headers"]) for one in outcomes} == {
        (record.topic, record.key, *record.headers[0]) for record in recorded.outbox_records
    }
    assert await pool.fetchval("SELECT count(*) FROM invoker.circuits") == 0
    [accepted] = await pool.fetch("SELECT DISTINCT accepted_how FROM invoker.signatures WHERE accepted_at IS NOT NULL")
    assert accepted["accepted_how"] == "alone"
    whole = await pool.fetch(
        "SELECT FROM invoker.deliveries WHERE ended_at IS NOT NULL AND key_id = 'k1' AND lease IS NULL "
        "AND leased_until IS NULL"
    )
    assert len(whole) == 3


async def test_results_of_a_system_count_in_their_order(pool: Pool) -> None:
    await add(pool, "crm", 3)
    await add(pool, "erp", 1)
    first, second, third, other = sorted(await claim(pool, "first", {}, 10, LIMITS), key=lambda delivery: delivery.id)
    results = [result_of(first, FAILED), result_of(second, Answered(200, b"")), result_of(other, Answered(200, b""))]
    assert len(await record_all(pool, *results, result_of(third, FAILED))) == 4
    [circuit] = await pool.fetch("SELECT system, failures FROM invoker.circuits")
    assert (circuit["system"], circuit["failures"]) == ("crm", 1)
    assert set((await states(pool)).values()) == {"due", "delivered"}


async def test_a_failed_test_call_does_not_count_against_its_system(pool: Pool) -> None:
    await add(pool, "crm", 4, test=True)
    gave_up = GaveUp("TestCallFailed", "The test call failed.")
    attempt = Attempt(ENDPOINT, datetime.now(UTC), 5, Answered(410, b""))
    await record_all(
        pool, *(DeliveryResult(row, gave_up, attempt) for row in await claim(pool, "test", {}, 10, LIMITS))
    )
    assert await pool.fetchval("SELECT count(*) FROM invoker.circuits") == 0
    assert b"DisableBusinessSystem" not in b"".join(
        row["value"] for row in await pool.fetch("SELECT value FROM invoker.outbox")
    )


async def test_a_failing_system_is_disabled_by_one_command(pool: Pool) -> None:
    await add(pool, "crm", 8)
    rows = await claim(pool, "first", {}, 4, LIMITS)
    await record_all(pool, *(result_of(row, FAILED) for row in rows))
    await pool.execute("UPDATE invoker.circuits SET failing_since = now() - interval '6 days', open_until = now()")
    for _ in range(2):
        [probe] = await claim(pool, "first", {}, 10, LIMITS)
        await record_all(pool, result_of(probe, FAILED))
        await pool.execute("UPDATE invoker.circuits SET open_until = now()")
    [command] = await pool.fetch("SELECT topic, value FROM invoker.outbox")
    assert command["topic"] == "switchboard.commands"
    assert b'"DisableBusinessSystem"' in command["value"]
    assert b"status 500" in command["value"]


async def test_a_delivery_that_fails_while_its_system_is_disabled_is_parked(pool: Pool) -> None:
    await add(pool, "crm", 2)
    rows = await claim(pool, "first", {}, 2, LIMITS)
    await pool.execute("UPDATE invoker.business_systems SET disabled = true")
    await record_all(pool, result_of(rows[0], FAILED), DeliveryResult(rows[1], Parked()))
    assert set((await states(pool)).values()) == {"parked"}
    assert [row["attempts"] for row in await pool.fetch("SELECT attempts FROM invoker.deliveries ORDER BY id")] == [
        1,
        0,
    ]
    async with pool.acquire() as connection, connection.transaction():
        await scheduling.make_due(connection, "ch", "crm")
    assert len(await claim(pool, "first", {}, 10, LIMITS)) == 1
    assert len(await claim(pool, "retry", {}, 10, LIMITS)) == 1


async def test_a_postponed_delivery_has_made_no_attempt(pool: Pool) -> None:
    await add(pool, "crm", 1)
    [row] = await claim(pool, "first", {}, 10, LIMITS)
    await record_all(pool, DeliveryResult(row, Postponed(datetime.now(UTC))))
    [again] = await claim(pool, "first", {}, 10, LIMITS)
    assert again.attempts == 1


async def test_a_replay_has_its_own_outcome(pool: Pool) -> None:
    [delivery] = await add(pool, "crm", 1)
    [row] = await claim(pool, "first", {}, 10, LIMITS)
    attempt = Attempt(ENDPOINT, datetime.now(UTC), 5, FAILED)
    await record_all(pool, DeliveryResult(row, GaveUp("RetriesExhausted", "All attempts failed."), attempt))
    assert await replay(pool, DeliveryFilter(account="acme"), "tests", 10) == [delivery]
    [row] = await claim(pool, "retry", {}, 10, LIMITS)
    assert row.attempts - row.uncounted == 1
    await record_all(pool, result_of(row, Answered(200, b"")))
    told = [row["value"] for row in await pool.fetch("SELECT value FROM invoker.outbox ORDER BY id")]
    assert [b'/outcome"' in told[0], b'/outcome/1"' in told[1]] == [True, True]


async def test_a_result_that_cannot_be_recorded_leaves_others_intact(
    pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    await add(pool, "crm", 3)
    rows = await claim(pool, "first", {}, 3, LIMITS)
    recorder = Recorder(pool, LIMITS, lambda _: None, lambda _: None)
    bad = Failed("answer", "\x00 is what no text column takes")
    call_results: list[CallResult] = [Answered(200, b""), bad, Answered(200, b"")]
    for row, call_result in zip(rows, call_results, strict=True):
        recorder.put(result_of(row, call_result))
    recording = asyncio.create_task(recorder.run())
    await recorder.drain()
    recording.cancel()
    assert sorted((await states(pool)).values()) == ["delivered", "delivered", "due"]
    assert "cannot be recorded" in caplog.text
    assert recorder.counters == {"delivered": 2}


async def test_accepted_signatures_are_shown_to_their_account_only(pool: Pool) -> None:
    await pool.execute("INSERT INTO invoker.signatures VALUES ('ch', 'crm', 'k1', 1, NULL, now(), 'alone', 'd-1')")

    for account, shown in (("acme", ["k1"]), (None, ["k1"]), ("bolt", [])):
        assert list(await accepted_signatures(pool, account, "ch", "crm")) == shown

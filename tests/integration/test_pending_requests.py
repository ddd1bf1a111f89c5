"""Requests that wait for settings, on a real database, without a broker."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Mapping

import pytest

from contracts.invocation import InvokeIntent
from services.infrastructure.event_log import NO_EVENT
from services.infrastructure.postgres import Pool
from services.invoker import delivery_log
from services.invoker.queue.claiming import claim
from services.invoker.requests import pending_requests
from services.invoker.requests.pending_requests import PendingRequests
from services.schema_validation.validator import SchemaValidator
from tests.hostile_schemas import references_to_enum
from tests.queue_database import LIMITS, add, queue_pool, states


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with queue_pool(database_url) as made:
        yield made


class FakeLog:
    """A log whose last event has the offset ``last``."""

    def __init__(self, last: int) -> None:
        self.last, self.asked = last, 0

    async def partition_count(self) -> int:
        return 1

    async def lineage(self, channels: Collection[str]) -> dict[str, list[int]]:
        return {channel: [0] for channel in channels}

    async def families(self, partitions: Collection[int]) -> dict[int, list[int]]:
        return {partition: [partition] for partition in partitions}

    async def last_offsets(self, applied: Mapping[int, int], partitions: Collection[int]) -> dict[int, int]:
        self.asked += 1
        return {one: self.last if applied.get(one, 0) <= self.last else NO_EVENT for one in partitions}


async def applied(pool: Pool, next_offset: int) -> None:
    await pool.execute(
        "INSERT INTO switchboard.checkpoints VALUES ('invoker', 'switchboard.events', 0, $1) "
        "ON CONFLICT (consumer, topic, partition) DO UPDATE SET next_offset = $1",
        next_offset,
    )


async def test_a_request_whose_validation_raises_is_refused_and_holds_up_no_others(pool: Pool) -> None:
    pending = PendingRequests(pool, FakeLog(last=41), "invoker", SchemaValidator(), LIMITS, lambda: None)
    await applied(pool, 42)
    first, damaged, last = await add(pool, "crm", 3, state="waiting")
    await pool.execute("UPDATE invoker.deliveries SET request = '[]' WHERE id = $1", damaged)
    await pending.run_once()
    reasons = dict(await pool.fetch("SELECT id, reason FROM invoker.deliveries"))
    assert reasons == {first: "IntentUnknown", damaged: "InternalError", last: "IntentUnknown"}
    assert await pool.fetchval("SELECT count(*) FROM invoker.outbox") == 3


async def test_a_request_is_refused_once_the_log_before_it_is_applied(pool: Pool) -> None:
    events = FakeLog(last=41)
    pending = PendingRequests(pool, events, "invoker", SchemaValidator(), LIMITS, lambda: None)
    await applied(pool, 30)
    [delivery] = await add(pool, "crm", 1, state="waiting")
    assert await pending.run_once()
    events.last = 99  # what comes later does not matter
    await applied(pool, 41)
    assert await pending.run_once()
    assert await states(pool) == {delivery: "waiting"}
    await applied(pool, 42)
    await pending.run_once()
    assert await states(pool) == {delivery: "refused"}
    assert events.asked == 1
    assert not await pending.run_once()


class GrownLog(FakeLog):
    """The channel moved to partition 1, where it has no event yet."""

    async def lineage(self, channels: Collection[str]) -> dict[str, list[int]]:
        return {channel: [1, 0] for channel in channels}

    async def last_offsets(self, applied: Mapping[int, int], partitions: Collection[int]) -> dict[int, int]:
        return await super().last_offsets(applied, partitions) | {1: NO_EVENT}


@pytest.mark.parametrize("came", ["before", "after"])
async def test_a_request_of_a_channel_that_moved_waits_for_its_earlier_partition(pool: Pool, came: str) -> None:
    """Whether the request came before the partitions grew or after it."""
    before = FakeLog(last=41) if came == "before" else GrownLog(last=41)
    await applied(pool, 30)
    [delivery] = await add(pool, "crm", 1, state="waiting")
    await PendingRequests(pool, before, "invoker", SchemaValidator(), LIMITS, lambda: None).run_once()
    assert await states(pool) == {delivery: "waiting"}
    await applied(pool, 42)
    grown = GrownLog(last=41)
    await PendingRequests(pool, grown, "invoker", SchemaValidator(), LIMITS, lambda: None).run_once()
    assert await states(pool) == {delivery: "refused"}


async def test_old_pending_requests_delay_no_others(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_requests, "_BATCH", 3)
    await pool.execute("INSERT INTO invoker.intents VALUES ('ch', 'crm', 'ORDER', '{}')")
    await add(pool, "crm", 20, state="waiting", settings_version=1_000_000)
    later = await add(pool, "erp", 1, state="waiting")
    await PendingRequests(pool, FakeLog(last=NO_EVENT), "invoker", SchemaValidator(), LIMITS, lambda: None).run_once()
    assert {key: state for key, state in (await states(pool)).items() if state != "waiting"} == {later[0]: "refused"}


async def test_a_pending_request_is_due_once_its_intent_exists(pool: Pool) -> None:
    pending = PendingRequests(pool, FakeLog(last=41), "invoker", SchemaValidator(), LIMITS, lambda: None)
    [delivery] = await add(pool, "crm", 1, state="waiting")
    await pending.run_once()
    await pool.execute("INSERT INTO invoker.intents VALUES ('ch', 'crm', 'ORDER', '{\"a\": 1}')")
    await pending.run_once()
    assert await states(pool) == {delivery: "due"}
    [row] = await claim(pool, "first", {}, 10, LIMITS)
    assert b'"data":{"a": 1}}' in (row.body or b"")


async def test_a_request_waits_for_its_settings_version(pool: Pool) -> None:
    await pool.execute("INSERT INTO invoker.intents VALUES ('ch', 'crm', 'ORDER', '{}')")
    [delivery] = await add(pool, "crm", 1, state="waiting", settings_version=8)
    pending = PendingRequests(pool, FakeLog(last=NO_EVENT), "invoker", SchemaValidator(), LIMITS, lambda: None)
    await pending.run_once()
    assert await states(pool) == {delivery: "waiting"}
    await pool.execute("UPDATE invoker.channels SET version = 8")
    await pending.run_once()
    assert await states(pool) == {delivery: "due"}


async def test_a_request_whose_check_runs_out_of_time_is_refused_and_a_dry_run_says_so(pool: Pool) -> None:
    """The check is ended by its real deadline; the estimate that would refuse the schema before is off."""
    schema, rows = references_to_enum(80)
    wide = {"properties": {"rows": {"items": schema.pop("items")}}, **schema}
    insert = "INSERT INTO invoker.intents VALUES ('ch', 'crm', 'ORDER', '{}', $1)"
    await pool.execute(insert, json.dumps(wide))
    slow: dict[str, object] = {"rows": rows}
    quick: dict[str, object] = {"rows": []}
    schemas = SchemaValidator("tests.unestimated_worker")
    pending = PendingRequests(pool, FakeLog(last=NO_EVENT), "invoker", schemas, LIMITS, lambda: None)
    [delivery] = await add(pool, "crm", 1, state="waiting")
    await pool.execute("UPDATE invoker.deliveries SET request = $1", json.dumps({"data": slow}))
    try:
        await pending.run_once()
        found = {}
        for name, data in (("slow", slow), ("quick", quick)):
            request = InvokeIntent(system="crm", code="ORDER", data=data)
            found[name] = await delivery_log.dry_run(pool, "acme", "ch", request, schemas)
    finally:
        await schemas.aclose()

    assert await states(pool) == {delivery: "refused"}
    [outcome] = [json.loads(row["value"])["data"] for row in await pool.fetch("SELECT value FROM invoker.outbox")]
    assert (outcome["status"], outcome["reason"]) == ("refused", "ValidationTimedOut")
    assert "more than 250 ms of processor time" in outcome["message"]
    assert found["slow"] == {"would": "refuse", "reason": "ValidationTimedOut", "message": outcome["message"]}
    assert found["quick"]["would"] == "call"
    assert await claim(pool, "first", {}, 10, LIMITS) == []

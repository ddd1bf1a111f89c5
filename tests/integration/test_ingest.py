"""From request records to deliveries and outbox records, on a real database, without a broker."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from contracts.invocation import INVOCATION_DATA_LIMIT
from services.domain.json_schema import Verdict
from services.infrastructure.postgres import Pool, migrate
from services.invoker.delivery_log import find_by_request
from services.invoker.limits import Limits
from services.invoker.queue.claiming import claim
from services.invoker.queue.rate_of_test_calls import TEST_CALLS_PER_MINUTE, forget_test_calls, wait_of_test_call
from services.invoker.service import MIGRATIONS
from services.schema_validation.validator import SchemaValidator
from tests.ingest_database import Record, apply, ingest_pool, outcomes, request, rows
from tests.migrations import migrate_down


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with ingest_pool(database_url) as made:
        yield made


async def test_the_body_is_fixed_and_has_the_fields_of_the_contract(pool: Pool) -> None:
    await apply(pool, request("r1", data={"data": {"order": "42"}, "template": "tpl"}), request("r2"))
    found = {name: json.loads(row["body"]) for name, row in (await rows(pool)).items()}
    assert found["r1"].keys() == found["r2"].keys()
    assert found["r1"].pop("timestamp").endswith("Z")
    assert found["r1"] == {
        "type": "ORDER",
        "account": "acme",
        "channel": "ch",
        "business_system": "crm",
        "template": "tpl",
        "data": {"order": "42"},
    }
    assert found["r2"]["data"] == {"a": 1}
    assert found["r2"]["template"] is None


async def test_a_database_that_lost_a_delivery_gives_it_the_same_id_and_end_again(pool: Pool) -> None:
    """So that its receiver knows its second call, and none comes after its time."""
    an_hour_ago = time.time_ns() // 1_000_000 - 3_600_000
    records = [
        replace(request(name, data={"ttl_seconds": 60}), offset=offset, timestamp=an_hour_ago)
        for offset, name in enumerate(("r1", "r2"))
    ]
    await apply(pool, *records)
    before = await rows(pool)
    assert before["r1"]["id"] != before["r2"]["id"]
    await pool.execute("DELETE FROM invoker.deliveries")
    await apply(pool, *records)
    again = await rows(pool)
    assert {name: row["id"] for name, row in again.items()} == {name: row["id"] for name, row in before.items()}
    assert {row["expires_at"].timestamp() for row in again.values()} == {an_hour_ago / 1_000 + 60}
    assert await claim(pool, "first", {}, 10, Limits()) == []


@pytest.mark.parametrize("together", [True, False])
async def test_the_same_request_again_changes_nothing_and_has_no_outcome(pool: Pool, together: bool) -> None:  # noqa: FBT001
    again = request("r1", data={"template": "t", "data": {"b": 2, "a": 1}}, time="2026-11-22T08:00:00Z")
    batch = [request("r1", data={"data": {"a": 1, "b": 2}, "template": "t"}), again, again]
    for some in [batch] if together else [[one] for one in batch]:
        await apply(pool, *some)
    assert len(await rows(pool)) == 1
    assert await outcomes(pool) == []


@pytest.mark.parametrize("together", [True, False])
async def test_another_request_with_the_same_id_is_refused_and_the_first_stands(pool: Pool, together: bool) -> None:  # noqa: FBT001
    contents: list[dict[str, Any]] = [{"data": {"a": one}} for one in (1, 1.0, True)]
    batch = [request("r1", data=data) for data in contents] + [request("r1", kind="MakeTestCall", code="ORDER")]
    batch[3] = Record(
        (batch[3].value or b"").replace(b', "code": "ORDER"', b"")  # a test call has no code
    )
    for some in [batch] if together else [[one] for one in batch]:
        await apply(pool, *some)
    assert json.loads((await rows(pool))["r1"]["body"])["data"] == {"a": 1}
    refusals = await outcomes(pool)
    assert [(refusal["type"], refusal["causationid"], refusal["data"]["reason"]) for refusal in refusals] == [
        ("InvocationFailed", "r1", "RequestIdReused")
    ] * 3
    assert len({refusal["id"] for refusal in refusals} | {"acme/ch/r1/outcome"}) == 4


async def test_data_is_stored_once_and_shown_as_requested(pool: Pool) -> None:
    wanted: dict[str, dict[str, Any]] = {
        "r1": {"data": {"b": 1.0, "text": 'a \x00 and ,"data":{} é', "data": True}, "template": "t"},
        "r2": {"data": {}},
        "r3": {"template": "t"},
    }
    records = [request(name, data=data) for name, data in wanted.items()]
    await apply(pool, *records)

    async def shown() -> dict[str, Any]:
        found = [await find_by_request(pool, "acme", "ch", name) for name in wanted]
        return {one["request_id"]: one["request"] for one in found if one}

    asked = {name: {"system": "crm", "code": "ORDER"} | data for name, data in wanted.items()}
    assert await shown() == asked
    assert "text" not in (await rows(pool))["r1"]["request"]
    await migrate_down(pool, "invoker", MIGRATIONS, to="0005_held")
    assert {name: json.loads(row["request"]) for name, row in (await rows(pool)).items()} == asked
    await migrate(pool, "invoker", MIGRATIONS)
    assert await shown() == asked
    await apply(pool, *records)
    assert await outcomes(pool) == []


async def test_data_must_satisfy_the_schema_of_the_intent(pool: Pool) -> None:
    await apply(
        pool,
        request("good", "STRICT", data={"data": {"order": 1}}),
        request("bad", "STRICT", data={"data": {"a": 1}}),
        request("default", "STRICT"),
    )
    found = {name: row["state"] for name, row in (await rows(pool)).items()}
    # What breaks the schema as it is known waits until all is known, and is refused then.
    assert found == {"good": "due", "bad": "waiting", "default": "due"}


async def test_slow_schemas_delay_no_other_tasks_and_are_validated_bit_by_bit(
    pool: Pool,
) -> None:
    class SlowSchemas(SchemaValidator):
        async def check(self, schema: dict[str, Any], data: object) -> Verdict:
            await asyncio.sleep(0.06)
            return await super().check(schema, data)

    turns = 0

    async def work() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(work())
    await apply(
        pool,
        *(request(f"r{number}", "STRICT", data={"data": {"order": 1}}) for number in range(20)),
        schemas=SlowSchemas(),
    )
    other.cancel()
    found = [row["state"] for row in (await rows(pool)).values()]
    assert 0 < found.count("due") < 20
    assert found.count("due") + found.count("waiting") == 20
    assert turns >= 5


async def test_an_unreadable_record_is_a_dead_letter_as_it_came(pool: Pool) -> None:
    unreadable: list[tuple[bytes | None, str]] = [
        (None, "no value"),
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'"text"', "not an object"),
        (b"[" * 100_000, "not JSON"),
        (b'{"id": "\\ud800"}', "'id' is wrong"),
        (b'{"id": NaN}', "not JSON"),
        (b'{"specversion": "1.0", "id": "r1"}', "'type' is missing"),
    ]
    keys = [b"ch", None, b"\xff\x00"]
    records = [Record(value, key) for value, _ in unreadable for key in keys]
    await apply(pool, *records, request("r1"))
    assert set(await rows(pool)) == {"r1"}
    letters = await pool.fetch("SELECT * FROM invoker.outbox ORDER BY id")
    wanted = [(value, reason, key) for value, reason in unreadable for key in keys]
    for letter, record, (value, reason, key) in zip(letters, records, wanted, strict=True):
        assert (letter["topic"], letter["partition"]) == ("switchboard.dead-letters", 3)
        assert (letter["key"], letter["value"]) == (key, value)
        headers = dict(zip(letter["headers"][::2], letter["headers"][1::2], strict=True))
        assert reason in headers.pop("reason")
        assert headers == {"topic": "switchboard.invocation-requests", "partition": "3", "offset": str(record.offset)}


async def test_a_dead_letter_that_is_too_large_has_no_value(pool: Pool) -> None:
    await apply(pool, Record(b"x" * 2_200_000))
    [letter] = await pool.fetch("SELECT * FROM invoker.outbox")
    assert letter["value"] is None
    assert letter["headers"][-2:] == ["omitted", "2200000"]


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        (request("r1", kind="ToggleSms"), "'type' is wrong"),
        (request("r1", colour="blue"), "'colour' is not a known field"),
        (request("r1", data={"colour": "blue"}), "'data.colour' is not a known field"),
        (request("r1", code="lower case"), "'data.code' is wrong"),
        (request("r1", data={"ttl_seconds": 0}), "'data.ttl_seconds' is wrong"),
        (request("r1", data={"data": {"x": "y" * INVOCATION_DATA_LIMIT}}), "bytes as compact JSON"),
        (request("r1", dryrun=True), "no call is dry"),
        (request("r" * 200), "'id' is wrong"),
        (request("r\x00"), "'id' is wrong"),
    ],
)
async def test_an_invalid_request_is_refused_with_a_sentence(pool: Pool, record: Record, sentence: str) -> None:
    await apply(pool, record, request("r2"))
    assert set(await rows(pool)) == {"r2"}
    [refusal] = await outcomes(pool)
    assert (refusal["type"], refusal["data"]["status"], refusal["data"]["reason"]) == (
        *("InvocationFailed", "refused"),
        "InvalidCommand",
    )
    assert sentence in refusal["data"]["message"]
    assert refusal["data"]["delivery"] is None


async def test_the_largest_call_is_256_kib(pool: Pool) -> None:
    longest = "x" * (INVOCATION_DATA_LIMIT - len('{"x":""}'))
    await apply(pool, request("r1", data={"data": {"x": longest}}))
    assert INVOCATION_DATA_LIMIT < len((await rows(pool))["r1"]["body"]) <= 256 * 1024


async def test_test_calls_beyond_the_accounts_rate_are_refused_whoever_asks(pool: Pool) -> None:
    """The gateway has counted one before it published it; the others come from elsewhere."""
    assert await wait_of_test_call(pool, ("acme", "ch", "over-http")) == 0.0
    asked = [request(f"t{number}", "", "MakeTestCall") for number in range(TEST_CALLS_PER_MINUTE)]
    await apply(pool, request("over-http", "", "MakeTestCall"), *asked, request("r1"))
    last = f"t{TEST_CALLS_PER_MINUTE - 1}"
    assert (await rows(pool)).keys() == {"over-http", "r1", *(f"t{n}" for n in range(TEST_CALLS_PER_MINUTE - 1))}

    await apply(pool, request("t0", "", "MakeTestCall"), request(last, "", "MakeTestCall"))
    assert 0 < await wait_of_test_call(pool, ("acme", "ch", "another")) <= 60
    assert await wait_of_test_call(pool, ("bolt", "ch", "another")) == 0.0
    told = [(one["causationid"], one["data"]["reason"]) for one in await outcomes(pool)]
    assert told == [(last, "TooManyTestCalls")] * 2, "a repeat of one that was made is none too many"

    await pool.execute("UPDATE invoker.test_calls SET requested_at = requested_at - interval '61 s'")
    await forget_test_calls(pool)
    await apply(pool, request(last, "", "MakeTestCall"))
    assert last in await rows(pool)

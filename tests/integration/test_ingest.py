"""From records of requests to rows and records for others, on a real database, without a broker."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from contracts.envelope import NotificationEnvelope
from contracts.invocation import INVOCATION_DATA_LIMIT, WebhookBody
from services.infrastructure.postgres import Pool, migrate, migrate_down
from services.invoker import resolution
from services.invoker.deliveries import find
from services.invoker.ingest import Ingest
from services.invoker.pace import Pace
from services.invoker.queue import claim
from services.invoker.service import MIGRATIONS
from services.invoker.slots import Slots


@dataclass(frozen=True, slots=True)
class Record:
    """As the consumer hands it over."""

    value: bytes | None
    key: bytes | None = b"ch"
    topic: str = "switchboard.invocation-requests"
    partition: int = 3
    offset: int = 41


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=4) as made:
        await migrate(made, "invoker", MIGRATIONS)
        await made.execute(
            "INSERT INTO invoker.channels VALUES ('ch', 'acme', false, 7);"
            "INSERT INTO invoker.business_systems VALUES ('ch', 'crm', 'https://crm.example/', 'standard-webhooks');"
            "INSERT INTO invoker.intents VALUES ('ch', 'crm', 'ORDER', '{\"a\": 1}', NULL);"
            "INSERT INTO invoker.intents VALUES ('ch', 'crm', 'STRICT', '{}', '{\"required\": [\"order\"]}')"
        )
        yield made


def request(request_id: str, code: str = "ORDER", kind: str = "InvokeIntent", **more: Any) -> Record:
    envelope = {
        "specversion": "1.0",
        "id": request_id,
        "type": kind,
        "source": "tests",
        "subject": "ch",
        "accountid": "acme",
        "data": {"system": "crm", "code": code, **more.pop("data", {})},
        **more,
    }
    return Record(json.dumps(envelope).encode())


async def take(pool: Pool, *records: Record) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await Ingest().take(connection, 3, records)


async def told(pool: Pool) -> list[dict[str, Any]]:
    """What was told on `switchboard.invocations`."""
    rows = await pool.fetch("SELECT value FROM invoker.outbox WHERE topic = 'switchboard.invocations' ORDER BY id")
    notes = [json.loads(row["value"]) for row in rows]
    assert all(NotificationEnvelope.model_validate(note).model_dump(exclude={"traceparent"}) == note for note in notes)
    return notes


async def rows(pool: Pool) -> dict[str, Any]:
    return {row["request_id"]: row for row in await pool.fetch("SELECT * FROM invoker.deliveries")}


async def test_the_body_is_frozen_and_has_what_a_business_system_is_promised(pool: Pool) -> None:
    await take(pool, request("r1", data={"data": {"order": "42"}, "template": "tpl"}), request("r2"))
    found = {name: json.loads(row["body"]) for name, row in (await rows(pool)).items()}
    assert all(WebhookBody.model_validate(body).model_dump() == body for body in found.values())
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


@pytest.mark.parametrize("together", [True, False])
async def test_the_same_request_again_changes_nothing_and_is_not_told_of(pool: Pool, together: bool) -> None:  # noqa: FBT001
    again = request("r1", data={"template": "t", "data": {"b": 2, "a": 1}}, time="2026-11-22T08:00:00Z")
    batch = [request("r1", data={"data": {"a": 1, "b": 2}, "template": "t"}), again, again]
    for some in [batch] if together else [[one] for one in batch]:
        await take(pool, *some)
    assert len(await rows(pool)) == 1
    assert await told(pool) == []


@pytest.mark.parametrize("together", [True, False])
async def test_another_request_with_the_same_id_is_refused_and_the_first_stands(pool: Pool, together: bool) -> None:  # noqa: FBT001
    contents: list[dict[str, Any]] = [{"data": {"a": one}} for one in (1, 1.0, True)]
    batch = [request("r1", data=data) for data in contents] + [request("r1", kind="MakeTestCall", code="ORDER")]
    batch[3] = Record(
        (batch[3].value or b"").replace(b', "code": "ORDER"', b"")  # a test call has no code
    )
    for some in [batch] if together else [[one] for one in batch]:
        await take(pool, *some)
    assert json.loads((await rows(pool))["r1"]["body"])["data"] == {"a": 1}
    notes = await told(pool)
    assert [(note["type"], note["causationid"], note["data"]["reason"]) for note in notes] == [
        ("InvocationFailed", "r1", "RequestIdReused")
    ] * 3
    assert len({note["id"] for note in notes} | {"acme/ch/r1/outcome"}) == 4


async def test_data_is_kept_once_and_shown_as_it_was_asked_for(pool: Pool) -> None:
    wanted: dict[str, dict[str, Any]] = {
        "r1": {"data": {"b": 1.0, "text": 'a \x00 and ,"data":{} é', "data": True}, "template": "t"},
        "r2": {"data": {}},
        "r3": {"template": "t"},
    }
    records = [request(name, data=data) for name, data in wanted.items()]
    await take(pool, *records)

    async def shown() -> dict[str, Any]:
        found = [await find(pool, "acme", "ch", name) for name in wanted]
        return {one["request_id"]: one["request"] for one in found if one}

    asked = {name: {"system": "crm", "code": "ORDER"} | data for name, data in wanted.items()}
    assert await shown() == asked
    assert "text" not in (await rows(pool))["r1"]["request"]
    await migrate_down(pool, "invoker", MIGRATIONS, to="0005_held")
    assert {name: json.loads(row["request"]) for name, row in (await rows(pool)).items()} == asked
    await migrate(pool, "invoker", MIGRATIONS)
    assert await shown() == asked
    await take(pool, *records)
    assert await told(pool) == []


async def test_data_must_satisfy_the_schema_of_the_intent(pool: Pool) -> None:
    await take(
        pool,
        request("good", "STRICT", data={"data": {"order": 1}}),
        request("bad", "STRICT", data={"data": {"a": 1}}),
        request("default", "STRICT"),
    )
    found = {name: row["state"] for name, row in (await rows(pool)).items()}
    # What breaks the schema as it is known waits until all is known, and is refused then.
    assert found == {"good": "due", "bad": "waiting", "default": "due"}


async def test_laborious_schemas_hold_up_nobody_and_are_judged_bit_by_bit(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def laborious(*_: object) -> str | None:
        time.sleep(0.06)
        return None

    monkeypatch.setattr(resolution, "problem_of_data", laborious)
    turns = 0

    async def work() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(work())
    await take(pool, *(request(f"r{number}", "STRICT", data={"data": {}}) for number in range(20)))
    other.cancel()
    found = [row["state"] for row in (await rows(pool)).values()]
    assert 0 < found.count("due") < 20
    assert found.count("due") + found.count("waiting") == 20
    assert turns >= 5


async def test_what_cannot_be_read_is_kept_as_it_came(pool: Pool) -> None:
    unreadable: list[tuple[bytes | None, str]] = [
        (None, "no value"),
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'"text"', "no object"),
        (b"[" * 100_000, "not JSON"),
        (b'{"id": "\\ud800"}', "not JSON"),
        (b'{"id": NaN}', "not JSON"),
        (b'{"specversion": "1.0", "id": "r1"}', "'type' is missing"),
    ]
    keys = [b"ch", None, b"\xff\x00"]
    await take(pool, *(Record(value, key) for value, _ in unreadable for key in keys), request("r1"))
    assert set(await rows(pool)) == {"r1"}
    letters = await pool.fetch("SELECT * FROM invoker.outbox ORDER BY id")
    wanted = [(value, reason, key) for value, reason in unreadable for key in keys]
    for letter, (value, reason, key) in zip(letters, wanted, strict=True):
        assert (letter["topic"], letter["partition"]) == ("switchboard.dead-letters", 3)
        assert (letter["key"], letter["value"]) == (key, value)
        headers = dict(zip(letter["headers"][::2], letter["headers"][1::2], strict=True))
        assert reason in headers.pop("reason")
        assert headers == {"topic": "switchboard.invocation-requests", "partition": "3", "offset": "41"}


async def test_one_too_large_to_be_passed_on_goes_without_its_value(pool: Pool) -> None:
    await take(pool, Record(b"x" * 2_090_000))
    [letter] = await pool.fetch("SELECT * FROM invoker.outbox")
    assert letter["value"] is None
    assert letter["headers"][-2:] == ["omitted", "2090000"]


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
async def test_what_can_be_read_but_not_served_is_refused_with_a_sentence(
    pool: Pool, record: Record, sentence: str
) -> None:
    await take(pool, record, request("r2"))
    assert set(await rows(pool)) == {"r2"}
    [note] = await told(pool)
    assert (note["type"], note["data"]["status"], note["data"]["reason"]) == (
        *("InvocationFailed", "refused"),
        "InvalidCommand",
    )
    assert sentence in note["data"]["message"]
    assert note["data"]["delivery"] is None


class Calling:
    """Keeps what it is to call."""

    def __init__(self, pace: Pace) -> None:
        self.slots = Slots(pace)
        self.rows: list[Any] = []

    def start(self, rows: Sequence[Any]) -> None:
        self.rows += rows


async def lease(pool: Pool, calling: Calling, *records: Record, commit: bool = True) -> None:
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        done = await Ingest(calling, PACE).take(connection, 3, records)
        await (transaction.commit() if commit else transaction.rollback())
        if done is not None:
            done(commit)


PACE = Pace(calls_per_system=3, ingest_waits=0.05)


async def claimed(pool: Pool) -> list[str]:
    return [row["request_id"] for row in await claim(pool, "first", {}, 100, Pace())]


async def test_what_has_a_slot_is_leased_as_it_comes_and_what_has_none_waits_behind(pool: Pool) -> None:
    calling = Calling(PACE)
    names = [f"r{number}" for number in range(5)]
    await lease(pool, calling, *(request(name) for name in names[:4]), request("r0"))
    await lease(pool, calling, request(names[4]))
    assert [row["request_id"] for row in calling.rows] == names[:3]
    found = await rows(pool)
    for row in calling.rows:
        kept = found[row["request_id"]]
        assert row.items() <= dict(kept).items()
        assert (kept["attempts"], kept["state"]) == (1, "due")
        assert kept["leased_until"] - kept["claimed_at"] == timedelta(seconds=PACE.lease)
    assert calling.slots.taken == 3
    assert await claimed(pool) == names[3:]


async def test_a_repeat_takes_no_slot_and_what_is_leased_wakes_no_line(pool: Pool) -> None:
    calling = Calling(PACE)
    await lease(pool, calling, request("r1"), request("r1"))
    await lease(pool, calling, request("r1"))
    assert (len(calling.rows), calling.slots.taken) == (1, 1)
    assert await pool.fetchval("SELECT count(*) FROM invoker.lines") == 0


async def test_a_slot_that_comes_free_is_for_whoever_waits(pool: Pool) -> None:
    calling = Calling(PACE)
    await lease(pool, calling, *(request(f"r{number}") for number in range(4)))
    calling.slots.give_back(("ch", "crm"), "first")
    await lease(pool, calling, request("late"))
    assert len(calling.rows) == 3
    assert await claimed(pool) == ["r3", "late"]


@pytest.mark.parametrize(
    "hindrance",
    [
        "INSERT INTO invoker.circuits (channel, system, failures) VALUES ('ch', 'crm', 1)",
        "INSERT INTO invoker.lines VALUES ('ch', 'crm', 'first', now())",
        "UPDATE invoker.business_systems SET disabled = true",
        "DELETE FROM invoker.intents",
    ],
)
async def test_what_fails_waits_or_is_not_known_is_not_leased(pool: Pool, hindrance: str) -> None:
    calling = Calling(PACE)
    await pool.execute(hindrance)
    await lease(pool, calling, request("r1"))
    assert (calling.rows, calling.slots.taken) == ([], 0)
    assert (await rows(pool))["r1"]["lease"] is None


async def test_a_test_call_waits_in_its_own_line(pool: Pool) -> None:
    calling = Calling(PACE)
    record = request("r1", kind="MakeTestCall")
    await lease(pool, calling, Record((record.value or b"").replace(b', "code": "ORDER"', b"")))
    assert calling.rows == []
    assert len(await claim(pool, "test", {}, 10, PACE)) == 1


async def test_what_is_not_committed_is_not_called_and_gives_its_slots_back(pool: Pool) -> None:
    calling = Calling(PACE)
    await lease(pool, calling, request("r1"), commit=False)
    await pool.execute("ALTER TABLE invoker.deliveries ADD CHECK (request_id <> 'bad')")
    with pytest.raises(asyncpg.CheckViolationError):
        await lease(pool, calling, request("r1"), request("bad"))
    assert (calling.rows, calling.slots.taken) == ([], 0)


async def test_while_others_wait_for_slots_nobody_comes_in_before_them(pool: Pool) -> None:
    calling = Calling(PACE)
    calling.slots.short = True
    await lease(pool, calling, request("r1"))
    assert calling.rows == []
    assert await claimed(pool) == ["r1"]


async def test_the_largest_call_is_256_kib(pool: Pool) -> None:
    longest = "x" * (INVOCATION_DATA_LIMIT - len('{"x":""}'))
    await take(pool, request("r1", data={"data": {"x": longest}}))
    assert INVOCATION_DATA_LIMIT < len((await rows(pool))["r1"]["body"]) <= 256 * 1024

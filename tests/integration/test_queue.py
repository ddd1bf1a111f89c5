"""The queue of deliveries on a real database, without a broker: claims, circuits, leases, times to live, retention."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from services.infrastructure.consuming import MIGRATIONS as CHECKPOINTS
from services.infrastructure.postgres import Pool, migrate, migrate_down
from services.infrastructure.vault import KeyRing, SignatureAddress
from services.invoker import deliveries, queue
from services.invoker import waiting as waiting_module
from services.invoker.deliveries import Chosen, listed, replay
from services.invoker.endpoints import Endpoint, Endpoints, Gone, LiveSignature
from services.invoker.outcomes import Answered, Delivered, Failed, GaveUp, Parked, PutBack, RetryAt
from services.invoker.pace import Pace
from services.invoker.queue import Wake, claim, wake
from services.invoker.recording import Recorder, record
from services.invoker.results import Attempt, Result
from services.invoker.service import MIGRATIONS
from services.invoker.sweeping import end_expired, forget_old, free_lost
from services.invoker.waiting import NOTHING, Waiting

PACE = Pace(calls_per_system=4, break_after=3, open_for=30, lease=30)
ENDPOINT = Endpoint("https://crm.example/", "plain-token", disabled=False, signatures=(LiveSignature("k1", b"s" * 32),))
FAILED = Answered(500, b"")


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=8) as made:
        await migrate(made, "checkpoints", CHECKPOINTS)
        await migrate(made, "invoker", MIGRATIONS)
        await made.execute("INSERT INTO invoker.channels VALUES ('ch', 'acme', false, 7)")
        yield made


async def add(pool: Pool, system: str, count: int = 1, **columns: Any) -> list[str]:
    """Due deliveries of a system that is open; returns their ids."""
    ids = [f"{system}-{number:06}" for number in range(count)]
    row = {"state": "due", "expires_at": None, "test": False, "settings_version": None} | columns
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "INSERT INTO invoker.business_systems VALUES ('ch', $1, 'https://crm.example/', 'plain-token') "
            "ON CONFLICT DO NOTHING",
            system,
        )
        await connection.execute(
            "INSERT INTO invoker.deliveries (id, account, channel, request_id, correlation_id, system, code, request, "
            "state, body, expires_at, test) "
            "SELECT id, 'acme', 'ch', id, id, $2, 'ORDER', $6::json, $3, $7, $4, $5 FROM unnest($1::text[]) AS id",
            ids,
            system,
            row["state"],
            row["expires_at"],
            row["test"],
            "{}" if row["settings_version"] is None else f'{{"settings_version": {row["settings_version"]}}}',
            None if row["state"] == "waiting" else b"{}",
        )
        await wake(connection, [Wake("ch", system, "test" if row["test"] else "first", datetime.now(UTC))])
    return ids


async def states(pool: Pool) -> dict[str, str]:
    return dict(await pool.fetch("SELECT id, state FROM invoker.deliveries"))


async def ended(pool: Pool, *results: Result) -> list[Result]:
    async with pool.acquire() as connection, connection.transaction():
        return (await record(connection, results, PACE)).kept


def tried(row: Any, came: Answered | Failed, wait_s: float = 3600) -> Result:
    """A failure that is tried again after ``wait_s``, or a success."""
    attempt = Attempt(ENDPOINT, datetime.now(UTC), 5, came)
    if isinstance(came, Answered) and came.succeeded:
        return Result(row, Delivered(None), attempt)
    return Result(row, RetryAt(datetime.now(UTC) + timedelta(seconds=wait_s)), attempt)


async def test_each_system_has_slots_of_its_own(pool: Pool) -> None:
    await add(pool, "hole", 1_000)
    await add(pool, "crm", 2)
    rows = await claim(pool, "first", {}, 100, PACE)
    assert sorted(row["system"] for row in rows) == ["crm"] * 2 + ["hole"] * 4
    assert await claim(pool, "first", {("ch", "hole"): 4}, 100, PACE) == []
    assert len(await claim(pool, "first", {("ch", "hole"): 3}, 100, PACE)) == 1


async def test_few_slots_are_dealt_out_evenly(pool: Pool) -> None:
    await add(pool, "big", 1_000)
    for number in range(9):
        await add(pool, f"small-{number}", 1)
    rows = await claim(pool, "first", {}, 10, PACE)
    assert len({row["system"] for row in rows}) == 10


async def test_lines_with_nothing_due_hide_nobody(pool: Pool) -> None:
    for number in range(150):
        await add(pool, f"idle-{number}", 1)
    await pool.execute("UPDATE invoker.deliveries SET state = 'delivered'")
    await add(pool, "crm", 1)
    assert [row["system"] for row in await claim(pool, "first", {}, 1, PACE)] == ["crm"]


async def test_no_two_claimers_get_the_same(pool: Pool) -> None:
    for number in range(20):
        await add(pool, f"s{number}", 10)

    async def work() -> list[str]:
        found: list[str] = []
        while rows := await claim(pool, "first", {}, 16, PACE):
            found += [row["id"] for row in rows]
        return found

    found = [one for some in await asyncio.gather(*(work() for _ in range(4))) for one in some]
    found += await work()  # a claimer passes by what another one holds at the moment
    assert len(found) == len(set(found)) == 200


async def test_retries_wait_in_a_lane_of_their_own(pool: Pool) -> None:
    await add(pool, "crm", 1)
    [row] = await claim(pool, "first", {}, 10, PACE)
    await ended(pool, tried(row, FAILED, wait_s=-1))
    assert await claim(pool, "first", {}, 10, PACE) == []
    [again] = await claim(pool, "retry", {}, 10, PACE)
    assert (again["id"], again["attempts"]) == (row["id"], 2)


async def test_a_zombie_changes_nothing(pool: Pool) -> None:
    await add(pool, "crm", 1)
    [late] = await claim(pool, "first", {}, 10, PACE)
    await pool.execute("UPDATE invoker.deliveries SET leased_until = now() - interval '1 second'")
    assert await free_lost(pool) == 1
    [row] = await claim(pool, "retry", {}, 10, PACE)
    assert await ended(pool, tried(late, FAILED)) == []
    assert len(await ended(pool, tried(row, Answered(200, b"")))) == 1
    assert await ended(pool, tried(late, Answered(200, b""))) == []
    [shown] = await listed(pool, Chosen(), 10)
    assert [(one["number"], one["stage"], one["status"]) for one in shown["attempt_log"]] == [
        (1, "unknown", None),
        (2, None, 200),
    ]
    assert await pool.fetchval("SELECT count(*) FROM invoker.outbox") == 1


async def test_successes_are_recorded_with_all_that_comes_of_them(pool: Pool) -> None:
    for system in ("crm", "erp"):
        await add(pool, system, 2)
        await pool.execute("INSERT INTO invoker.signatures VALUES ('ch', $1, 'k1', 1)", system)
        await pool.execute("INSERT INTO invoker.circuits (channel, system) VALUES ('ch', $1)", system)
    rows = await claim(pool, "first", {}, 10, PACE)
    lost, *held = sorted(rows, key=lambda row: str(row["id"]))
    await pool.execute("UPDATE invoker.deliveries SET lease = gen_random_uuid() WHERE id = $1", lost["id"])
    async with pool.acquire() as connection:
        recorded = await record(connection, [tried(row, Answered(204, b"{}")) for row in rows], PACE)
    assert sorted(one.row["id"] for one in recorded.kept) == [row["id"] for row in held]
    assert await states(pool) == {lost["id"]: "due"} | {row["id"]: "delivered" for row in held}
    attempts = await pool.fetch("SELECT * FROM invoker.attempts ORDER BY delivery")
    assert [(one["delivery"], one["number"]) for one in attempts] == [(row["id"], 1) for row in held]
    assert {(one["status"], one["answer"], *one["key_ids"], one["accepted_key_id"]) for one in attempts} == {
        (204, b"{}", "k1", "k1")
    }
    told = await pool.fetch("SELECT *, held_until > now() AS held FROM invoker.outbox ORDER BY id")
    assert (sorted(recorded.rows), {one["held"] for one in told}) == ([one["id"] for one in told], {True})
    assert sorted(note.value or b"" for note in recorded.notes) == sorted(one["value"] for one in told)
    assert {(one["topic"], one["key"], *one["headers"]) for one in told} == {
        (note.topic, note.key, *note.headers[0]) for note in recorded.notes
    }
    assert await pool.fetchval("SELECT count(*) FROM invoker.circuits") == 0
    [accepted] = await pool.fetch("SELECT DISTINCT accepted_how FROM invoker.signatures WHERE accepted_at IS NOT NULL")
    assert accepted["accepted_how"] == "alone"
    whole = await pool.fetch(
        "SELECT FROM invoker.deliveries WHERE ended_at IS NOT NULL AND key_id = 'k1' AND lease IS NULL "
        "AND leased_until IS NULL"
    )
    assert len(whole) == 3


async def test_what_came_of_a_system_counts_in_its_order(pool: Pool) -> None:
    await add(pool, "crm", 3)
    await add(pool, "erp", 1)
    first, second, third, other = sorted(await claim(pool, "first", {}, 10, PACE), key=lambda row: str(row["id"]))
    results = [tried(first, FAILED), tried(second, Answered(200, b"")), tried(other, Answered(200, b""))]
    assert len(await ended(pool, *results, tried(third, FAILED))) == 4
    [circuit] = await pool.fetch("SELECT system, failures FROM invoker.circuits")
    assert (circuit["system"], circuit["failures"]) == ("crm", 1)
    assert set((await states(pool)).values()) == {"due", "delivered"}


async def test_a_circuit_opens_lets_one_probe_through_and_closes(pool: Pool) -> None:
    await add(pool, "crm", 10)
    rows = await claim(pool, "first", {}, 3, PACE)
    await ended(pool, *(tried(row, FAILED) for row in rows))
    assert await claim(pool, "first", {}, 10, PACE) == []
    await pool.execute("UPDATE invoker.circuits SET open_until = now()")
    [probe] = await claim(pool, "first", {}, 10, PACE)
    assert await claim(pool, "first", {}, 10, PACE) == []
    await ended(pool, tried(probe, FAILED))
    assert await pool.fetchval("SELECT openings FROM invoker.circuits") == 2
    await pool.execute("UPDATE invoker.circuits SET open_until = now()")
    [probe] = await claim(pool, "first", {}, 10, PACE)
    await ended(pool, tried(probe, Answered(204, b"")))
    assert await pool.fetchval("SELECT count(*) FROM invoker.circuits") == 0
    assert len(await claim(pool, "first", {}, 10, PACE)) == 4


async def test_a_claimer_waits_for_nobodys_lock(pool: Pool) -> None:
    await add(pool, "crm", 10)
    await add(pool, "erp", 1)
    rows = await claim(pool, "first", {}, 3, PACE)
    await ended(pool, *(tried(row, FAILED) for row in rows if row["system"] == "crm"))
    await pool.execute("UPDATE invoker.circuits SET open_until = now(), failures = 10")
    async with pool.acquire() as other, other.transaction():
        await other.execute("SELECT * FROM invoker.circuits FOR UPDATE")
        async with asyncio.timeout(10):
            assert len(await claim(pool, "first", {}, 10, PACE)) > 0


async def test_what_was_deleted_ends_though_it_was_opened_again(pool: Pool) -> None:
    await add(pool, "crm", 3)
    [called, *_] = await claim(pool, "first", {}, 1, PACE)
    async with pool.acquire() as connection, connection.transaction():
        await queue.doom(connection, "ch", "crm", "BusinessSystemUnknown")
    await ended(pool, tried(called, FAILED))
    rows = await claim(pool, "first", {}, 10, PACE) + await claim(pool, "retry", {}, 10, PACE)
    assert [row["reason"] for row in rows] == ["BusinessSystemUnknown"] * 3


async def test_many_replays_take_each_but_once(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "_AT_ONCE", 2)
    ids = await add(pool, "crm", 5, state="dead")
    # Ends each as soon as it is due again, as a worker might between two batches.
    await pool.execute(
        "CREATE FUNCTION ends() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN NEW.state := 'dead'; RETURN NEW; END $$;"
        "CREATE TRIGGER ends BEFORE UPDATE ON invoker.deliveries FOR EACH ROW EXECUTE FUNCTION ends()"
    )
    assert await replay(pool, Chosen(account="acme", states=("dead",)), "tests", 100) == ids


async def test_a_test_call_that_fails_is_not_held_against_its_system(pool: Pool) -> None:
    await add(pool, "crm", 4, test=True)
    gave_up = GaveUp("TestCallFailed", "The test call failed.")
    attempt = Attempt(ENDPOINT, datetime.now(UTC), 5, Answered(410, b""))
    await ended(pool, *(Result(row, gave_up, attempt) for row in await claim(pool, "test", {}, 10, PACE)))
    assert await pool.fetchval("SELECT count(*) FROM invoker.circuits") == 0
    assert b"DisableBusinessSystem" not in b"".join(
        row["value"] for row in await pool.fetch("SELECT value FROM invoker.outbox")
    )


async def test_a_test_call_passes_an_open_circuit(pool: Pool) -> None:
    await add(pool, "crm", 3)
    await ended(pool, *(tried(row, FAILED) for row in await claim(pool, "first", {}, 3, PACE)))
    await pool.execute("DELETE FROM invoker.deliveries")
    await add(pool, "crm", 1, test=True)
    assert len(await claim(pool, "test", {}, 10, PACE)) == 1


async def test_a_failing_system_is_asked_to_be_disabled_once(pool: Pool) -> None:
    await add(pool, "crm", 8)
    rows = await claim(pool, "first", {}, 4, PACE)
    await ended(pool, *(tried(row, FAILED) for row in rows))
    await pool.execute("UPDATE invoker.circuits SET failing_since = now() - interval '6 days', open_until = now()")
    for _ in range(2):
        [probe] = await claim(pool, "first", {}, 10, PACE)
        await ended(pool, tried(probe, FAILED))
        await pool.execute("UPDATE invoker.circuits SET open_until = now()")
    [command] = await pool.fetch("SELECT topic, value FROM invoker.outbox")
    assert command["topic"] == "switchboard.commands"
    assert b'"DisableBusinessSystem"' in command["value"]
    assert b"status 500" in command["value"]


async def test_what_fails_while_its_system_is_disabled_is_parked(pool: Pool) -> None:
    await add(pool, "crm", 2)
    rows = await claim(pool, "first", {}, 2, PACE)
    await pool.execute("UPDATE invoker.business_systems SET disabled = true")
    await ended(pool, tried(rows[0], FAILED), Result(rows[1], Parked()))
    assert set((await states(pool)).values()) == {"parked"}
    assert [row["attempts"] for row in await pool.fetch("SELECT attempts FROM invoker.deliveries ORDER BY id")] == [
        1,
        0,
    ]
    async with pool.acquire() as connection, connection.transaction():
        await queue.hurry(connection, "ch", "crm")
    assert len(await claim(pool, "first", {}, 10, PACE)) == 1
    assert len(await claim(pool, "retry", {}, 10, PACE)) == 1


async def test_what_is_put_back_has_not_been_tried(pool: Pool) -> None:
    await add(pool, "crm", 1)
    [row] = await claim(pool, "first", {}, 10, PACE)
    await ended(pool, Result(row, PutBack(datetime.now(UTC))))
    [again] = await claim(pool, "first", {}, 10, PACE)
    assert again["attempts"] == 1


async def test_times_to_live_end_what_waits_whatever_it_waits_for(pool: Pool) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    for state in ("due", "parked", "waiting"):
        await add(pool, state, 2, state=state, expires_at=past)
    await add(pool, "later", 1, expires_at=past + timedelta(hours=1))
    assert await end_expired(pool) == 6
    assert sorted((await states(pool)).values()) == ["dead"] * 6 + ["due"]
    assert await pool.fetchval("SELECT count(*) FROM invoker.outbox") == 6


async def test_the_log_forgets_what_ended_and_nothing_else(pool: Pool) -> None:
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
    assert await forget_old(pool, 32) == 0
    assert await forget_old(pool, 30) == 4
    assert sorted((await states(pool)).values()) == ["due", "due", "parked", "parked"]
    assert await pool.fetchval("SELECT count(*) FROM invoker.attempts") == 4


async def test_a_replay_is_told_as_an_outcome_of_its_own(pool: Pool) -> None:
    [delivery] = await add(pool, "crm", 1)
    [row] = await claim(pool, "first", {}, 10, PACE)
    attempt = Attempt(ENDPOINT, datetime.now(UTC), 5, FAILED)
    await ended(pool, Result(row, GaveUp("RetriesExhausted", "All attempts failed."), attempt))
    assert await replay(pool, Chosen(account="acme"), "tests", 10) == [delivery]
    [row] = await claim(pool, "retry", {}, 10, PACE)
    assert row["attempts"] - row["excused"] == 1
    await ended(pool, tried(row, Answered(200, b"")))
    told = [row["value"] for row in await pool.fetch("SELECT value FROM invoker.outbox ORDER BY id")]
    assert [b'/outcome"' in told[0], b'/outcome/1"' in told[1]] == [True, True]


async def test_a_result_that_cannot_be_recorded_takes_no_other_with_it(
    pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    await add(pool, "crm", 3)
    rows = await claim(pool, "first", {}, 3, PACE)
    recorder = Recorder(pool, PACE, lambda _: None, lambda _: None)
    bad = Failed("answer", "\x00 is what no text column takes")
    ends: list[Answered | Failed] = [Answered(200, b""), bad, Answered(200, b"")]
    for row, came in zip(rows, ends, strict=True):
        recorder.put(tried(row, came))
    recording = asyncio.create_task(recorder.run())
    await recorder.drained()
    recording.cancel()
    assert sorted((await states(pool)).values()) == ["delivered", "delivered", "due"]
    assert "cannot be recorded" in caplog.text
    assert recorder.tallies == {"delivered": 2}


async def test_settings_are_read_anew_once_their_channel_has_changed(pool: Pool) -> None:
    keyring = KeyRing.parse(KeyRing.make())
    await add(pool, "crm", 1)
    for key, until in (("old", datetime.now(UTC) + timedelta(seconds=0.5)), ("new", None)):
        encrypted = keyring.encrypt(key.encode().ljust(32), SignatureAddress("ch", "crm", key))
        await pool.execute("INSERT INTO invoker.signatures VALUES ('ch', 'crm', $1, 1, $2)", key, until)
        await pool.execute("INSERT INTO invoker.secrets VALUES ('ch/crm/' || $1, $2)", key, encrypted)
    endpoints = Endpoints(keyring)

    async def known() -> Endpoint:
        async with pool.acquire() as connection:
            found = (await endpoints.of(connection, {("ch", "crm")}))["ch", "crm"]
        assert isinstance(found, Endpoint)
        return found

    assert len((await known()).signatures) == 2
    await pool.execute("UPDATE invoker.business_systems SET api_request_url = 'https://new.example/'")
    assert (await known()).api_request_url == "https://crm.example/"
    await asyncio.sleep(0.6)
    assert [one.key_id for one in (await known()).signatures] == ["new"]  # what time does, no event tells
    await pool.execute("UPDATE invoker.channels SET version = version + 1")
    assert (await known()).api_request_url == "https://new.example/"
    await pool.execute("DELETE FROM invoker.business_systems; UPDATE invoker.channels SET version = version + 1")
    async with pool.acquire() as connection:
        assert isinstance((await endpoints.of(connection, {("ch", "crm")}))["ch", "crm"], Gone)


class FakeLog:
    """A log whose last event has the offset ``last``."""

    def __init__(self, last: int) -> None:
        self.last, self.asked = last, 0

    async def partitions(self) -> int:
        return 1

    async def last_events(self, applied: dict[int, int], partitions: Any) -> dict[int, int]:
        self.asked += 1
        return {one: self.last if applied.get(one, 0) <= self.last else NOTHING for one in partitions}


async def applied(pool: Pool, next_offset: int) -> None:
    await pool.execute(
        "INSERT INTO switchboard.checkpoints VALUES ('invoker', 'switchboard.events', 0, $1) "
        "ON CONFLICT (consumer, topic, partition) DO UPDATE SET next_offset = $1",
        next_offset,
    )


async def test_the_unknown_is_refused_exactly_when_the_log_is_read_as_it_was(pool: Pool) -> None:
    events = FakeLog(last=41)
    waiting = Waiting(pool, events, "invoker", PACE, lambda: None)
    await applied(pool, 30)
    [delivery] = await add(pool, "crm", 1, state="waiting")
    assert await waiting.look()
    events.last = 99  # what comes later does not matter
    await applied(pool, 41)
    assert await waiting.look()
    assert await states(pool) == {delivery: "waiting"}
    await applied(pool, 42)
    await waiting.look()
    assert await states(pool) == {delivery: "refused"}
    assert events.asked == 1
    assert not await waiting.look()


async def test_who_waits_long_holds_up_nobody(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_module, "_AT_ONCE", 3)
    await pool.execute("INSERT INTO invoker.intents VALUES ('ch', 'crm', 'ORDER', '{}')")
    await add(pool, "crm", 20, state="waiting", settings_version=1_000_000)
    later = await add(pool, "erp", 1, state="waiting")
    await Waiting(pool, FakeLog(last=NOTHING), "invoker", PACE, lambda: None).look()
    assert {key: state for key, state in (await states(pool)).items() if state != "waiting"} == {later[0]: "refused"}


async def test_the_unknown_that_becomes_known_is_due_at_once(pool: Pool) -> None:
    waiting = Waiting(pool, FakeLog(last=41), "invoker", PACE, lambda: None)
    [delivery] = await add(pool, "crm", 1, state="waiting")
    await waiting.look()
    await pool.execute("INSERT INTO invoker.intents VALUES ('ch', 'crm', 'ORDER', '{\"a\": 1}')")
    await waiting.look()
    assert await states(pool) == {delivery: "due"}
    [row] = await claim(pool, "first", {}, 10, PACE)
    assert b'"data":{"a": 1}}' in row["body"]


async def test_a_version_that_is_yet_to_come_is_waited_for(pool: Pool) -> None:
    await pool.execute("INSERT INTO invoker.intents VALUES ('ch', 'crm', 'ORDER', '{}')")
    [delivery] = await add(pool, "crm", 1, state="waiting", settings_version=8)
    waiting = Waiting(pool, FakeLog(last=NOTHING), "invoker", PACE, lambda: None)
    await waiting.look()
    assert await states(pool) == {delivery: "waiting"}
    await pool.execute("UPDATE invoker.channels SET version = 8")
    await waiting.look()
    assert await states(pool) == {delivery: "due"}


async def test_the_migrations_go_back_and_forth(pool: Pool) -> None:
    directory = Path(MIGRATIONS)
    await add(pool, "crm", 1)
    await migrate_down(pool, "invoker", directory, to="0001_invoker")
    await migrate(pool, "invoker", directory)
    assert len(await claim(pool, "first", {}, 10, PACE)) == 1

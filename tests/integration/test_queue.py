"""The queue on a real database, without a broker: fair claims, lanes, circuits, replays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.infrastructure.postgres import Pool, migrate
from services.infrastructure.vault import KeyRing, SignatureAddress
from services.invoker import delivery_log
from services.invoker.delivery_log import DeliveryFilter, replay
from services.invoker.queue import listeners, scheduling
from services.invoker.queue.claiming import awake_lanes, claim
from services.invoker.results.retry_policy import (
    Answered,
)
from services.invoker.service import MIGRATIONS
from services.invoker.settings_replica.endpoint import Endpoint, NoEndpoint
from services.invoker.settings_replica.endpoint_cache import EndpointCache
from tests.migrations import migrate_down
from tests.patience import PATIENCE_S
from tests.queue_database import FAILED, LIMITS, add, queue_pool, record_all, result_of


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with queue_pool(database_url) as made:
        yield made


async def test_each_system_has_its_own_slots(pool: Pool) -> None:
    await add(pool, "hole", 1_000)
    await add(pool, "crm", 2)
    rows = await claim(pool, "first", {}, 100, LIMITS)
    assert sorted(delivery.system for delivery in rows) == ["crm"] * 2 + ["hole"] * 4
    assert await claim(pool, "first", {("ch", "hole"): 4}, 100, LIMITS) == []
    assert len(await claim(pool, "first", {("ch", "hole"): 3}, 100, LIMITS)) == 1


async def test_few_slots_are_shared_equally(pool: Pool) -> None:
    await add(pool, "big", 1_000)
    for number in range(9):
        await add(pool, f"small-{number}", 1)
    rows = await claim(pool, "first", {}, 10, LIMITS)
    assert len({delivery.system for delivery in rows}) == 10


async def test_queues_with_nothing_due_hide_no_other(pool: Pool) -> None:
    for number in range(150):
        await add(pool, f"idle-{number}", 1)
    await pool.execute("UPDATE invoker.deliveries SET state = 'delivered'")
    await add(pool, "crm", 1)
    assert [delivery.system for delivery in await claim(pool, "first", {}, 1, LIMITS)] == ["crm"]


async def test_no_two_claimers_get_the_same(pool: Pool) -> None:
    for number in range(20):
        await add(pool, f"s{number}", 10)

    async def work() -> list[str]:
        found: list[str] = []
        while rows := await claim(pool, "first", {}, 16, LIMITS):
            found += [delivery.id for delivery in rows]
        return found

    found = [one for some in await asyncio.gather(*(work() for _ in range(4))) for one in some]
    found += await work()  # a claimer passes by what another one holds at the moment
    assert len(found) == len(set(found)) == 200


async def test_retries_have_their_own_lane(pool: Pool) -> None:
    await add(pool, "crm", 1)
    [row] = await claim(pool, "first", {}, 10, LIMITS)
    await record_all(pool, result_of(row, FAILED, wait_s=-1))
    assert await claim(pool, "first", {}, 10, LIMITS) == []
    [again] = await claim(pool, "retry", {}, 10, LIMITS)
    assert (again.id, again.attempts) == (row.id, 2)


async def test_a_circuit_opens_lets_one_probe_through_and_closes(pool: Pool) -> None:
    await add(pool, "crm", 10)
    rows = await claim(pool, "first", {}, 3, LIMITS)
    await record_all(pool, *(result_of(row, FAILED) for row in rows))
    assert await claim(pool, "first", {}, 10, LIMITS) == []
    await pool.execute("UPDATE invoker.circuits SET open_until = now()")
    [probe] = await claim(pool, "first", {}, 10, LIMITS)
    assert await claim(pool, "first", {}, 10, LIMITS) == []
    await record_all(pool, result_of(probe, FAILED))
    assert await pool.fetchval("SELECT openings FROM invoker.circuits") == 2
    await pool.execute("UPDATE invoker.circuits SET open_until = now()")
    [probe] = await claim(pool, "first", {}, 10, LIMITS)
    await record_all(pool, result_of(probe, Answered(204, b"")))
    assert await pool.fetchval("SELECT count(*) FROM invoker.circuits") == 0
    assert len(await claim(pool, "first", {}, 10, LIMITS)) == 4


async def test_a_claim_waits_for_no_lock(pool: Pool) -> None:
    await add(pool, "crm", 10)
    await add(pool, "erp", 1)
    rows = await claim(pool, "first", {}, 3, LIMITS)
    await record_all(pool, *(result_of(row, FAILED) for row in rows if row.system == "crm"))
    await pool.execute("UPDATE invoker.circuits SET open_until = now(), failures = 10")
    async with pool.acquire() as other, other.transaction():
        await other.execute("SELECT * FROM invoker.circuits FOR UPDATE")
        async with asyncio.timeout(10):
            assert len(await claim(pool, "first", {}, 10, LIMITS)) > 0


async def test_deliveries_of_a_deleted_system_end_though_it_is_opened_again(pool: Pool) -> None:
    await add(pool, "crm", 3)
    [called, *_] = await claim(pool, "first", {}, 1, LIMITS)
    async with pool.acquire() as connection, connection.transaction():
        await scheduling.fail_all(connection, "ch", "crm", "BusinessSystemUnknown")
    await record_all(pool, result_of(called, FAILED))
    rows = await claim(pool, "first", {}, 10, LIMITS) + await claim(pool, "retry", {}, 10, LIMITS)
    assert [row.cancel_reason for row in rows] == ["BusinessSystemUnknown"] * 3


async def test_a_replay_of_many_takes_each_once(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_log, "_BATCH", 2)
    ids = await add(pool, "crm", 5, state="dead")
    # Ends each as soon as it is due again, as a worker might between two batches.
    await pool.execute(
        "CREATE FUNCTION ends() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN NEW.state := 'dead'; RETURN NEW; END $$;"
        "CREATE TRIGGER ends BEFORE UPDATE ON invoker.deliveries FOR EACH ROW EXECUTE FUNCTION ends()"
    )
    assert await replay(pool, DeliveryFilter(account="acme", states=("dead",)), "tests", 100) == ids


async def test_a_test_call_passes_an_open_circuit(pool: Pool) -> None:
    await add(pool, "crm", 3)
    await record_all(pool, *(result_of(row, FAILED) for row in await claim(pool, "first", {}, 3, LIMITS)))
    await pool.execute("DELETE FROM invoker.deliveries")
    await add(pool, "crm", 1, test=True)
    assert len(await claim(pool, "test", {}, 10, LIMITS)) == 1


async def test_an_endpoint_is_read_again_once_its_channel_has_changed(pool: Pool) -> None:
    keyring = KeyRing.parse(KeyRing.make())
    await add(pool, "crm", 1)
    for key, until in (("old", datetime.now(UTC) + timedelta(seconds=0.5)), ("new", None)):
        encrypted = keyring.encrypt(key.encode().ljust(32), SignatureAddress("ch", "crm", key))
        await pool.execute("INSERT INTO invoker.signatures VALUES ('ch', 'crm', $1, 1, $2)", key, until)
        await pool.execute("INSERT INTO invoker.secrets VALUES ('ch/crm/' || $1, $2)", key, encrypted)
    endpoints = EndpointCache(keyring)

    async def known() -> Endpoint:
        async with pool.acquire() as connection:
            found = (await endpoints.load(connection, {("ch", "crm")}))["ch", "crm"]
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
        assert isinstance((await endpoints.load(connection, {("ch", "crm")}))["ch", "crm"], NoEndpoint)


async def test_migrations_go_down_and_up(pool: Pool) -> None:
    directory = Path(MIGRATIONS)
    await add(pool, "crm", 1)
    await migrate_down(pool, "invoker", directory, to="0001_invoker")
    await migrate(pool, "invoker", directory)
    assert len(await claim(pool, "first", {}, 10, LIMITS)) == 1


async def test_what_has_expired_is_not_called(pool: Pool) -> None:
    """The sweeper ends it soon; until then its queue sleeps, so that it is not looked at again and again."""
    await add(pool, "crm", expires_at=datetime.now(UTC) - timedelta(seconds=1))
    assert await claim(pool, "first", {}, 10, LIMITS) == []
    assert await awake_lanes(pool) == []


async def test_calls_that_belong_together_are_found_by_an_index(pool: Pool) -> None:
    """Of 5,000 of one channel, whether by the id of the request or by that of what it belongs to."""
    ids = await add(pool, "crm", 5_000)
    await pool.execute("UPDATE invoker.deliveries SET correlation_id = 'order-1' WHERE id = ANY($1)", ids[7:9])
    await pool.execute("ANALYZE invoker.deliveries")

    for about, found in (("order-1", [ids[8], ids[7]]), (ids[8], [ids[8]]), (ids[9], [ids[9]])):
        chosen = DeliveryFilter("acme", "ch", about=about)
        assert [one["id"] for one in await delivery_log.list_deliveries(pool, chosen, 200)] == found
    where, values = chosen.where()
    query = f"EXPLAIN SELECT id FROM invoker.deliveries WHERE {where} ORDER BY id DESC LIMIT 200"  # noqa: S608
    shown = "\n".join(row[0] for row in await pool.fetch(query, *values))
    assert "deliveries_by_correlation" in shown, shown


async def test_a_listener_that_goes_on_writes_nothing_until_its_lease_is_nearly_over(pool: Pool) -> None:
    """Nor does it wait for the lock of those who begin: each of many asks every few seconds."""
    lease = "SELECT expires_at - now() FROM invoker.listeners"
    assert await listeners.listen(pool, "acme", "ch", "laptop", None)
    written = await pool.fetchval("SELECT xmin::text FROM invoker.listeners")
    async with pool.acquire() as other, other.transaction():
        await other.execute(listeners.LOCK, "acme")
        async with asyncio.timeout(PATIENCE_S):
            assert await listeners.listen(pool, "acme", "ch", "laptop", None)
    assert await pool.fetchval("SELECT xmin::text FROM invoker.listeners") == written

    least = timedelta(seconds=listeners.LEASE_S)
    await pool.execute("UPDATE invoker.listeners SET expires_at = now() + $1::interval", least)
    assert await listeners.listen(pool, "acme", "ch", "laptop", None)
    assert await pool.fetchval(lease) > least

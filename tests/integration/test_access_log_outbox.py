"""The access log in the database: with the change that it tells of, or not at all; bounded; published in order."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from contracts import topics
from contracts.access_log import ApiKeyRevoked
from contracts.envelope import Origin
from services.gateway.authentication import api_keys
from services.gateway.authentication.access_log import AccessLogFilter, Concerned, list_records, record
from services.gateway.authentication.access_log_relay import AccessLogRelay
from services.gateway.authentication.actor import COMMAND_LINE, Actor
from services.gateway.authentication.api_keys import MIGRATIONS
from services.gateway.authentication.refusals import MAX_KEYS_PER_SOURCE, MAX_SOURCES, Refusals
from services.gateway.authentication.roles import Scope
from services.infrastructure.config import Settings
from services.infrastructure.postgres import IDLE_TRANSACTION_S, OUTAGES, Pool, migrate, pool_of
from services.infrastructure.topics import apply_topics
from tests.access_records import published_records
from tests.installation import fresh
from tests.patience import PATIENCE_S
from tests.servers import PARTITIONS, Servers

KEYS = "SELECT key_id, revoked_at, expires_at FROM gateway.api_keys"


class Crash(Exception):
    """Ends a relay as a SIGKILL would: after what it did last, and before what it would have done next."""


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    pool = await pool_of(Settings(database_url=database_url), size=4)
    await migrate(pool, "gateway", MIGRATIONS)
    yield pool
    await pool.close()


async def written(pool: Pool) -> list[str]:
    records, _ = await list_records(pool, AccessLogFilter(), 0, 10_000)
    return [one["type"] for one in records]


async def test_a_key_changes_with_its_record_or_not_at_all(pool: Pool) -> None:
    token = await api_keys.create(pool, label="a", scope=Scope("acme"))
    old = await api_keys.find(pool, api_keys.key_id_of(token))
    assert old is not None
    before = await pool.fetch(KEYS)
    await pool.execute("ALTER TABLE gateway.access_log ADD CHECK (false) NOT VALID")

    with pytest.raises(asyncpg.CheckViolationError):
        await api_keys.create(pool, label="b", scope=Scope("acme"))
    with pytest.raises(asyncpg.CheckViolationError):
        await api_keys.rotate(pool, old, overlap=timedelta(), expires_at=None)
    with pytest.raises(asyncpg.CheckViolationError):
        await api_keys.revoke(pool, old.key_id)

    assert await pool.fetch(KEYS) == before
    assert await written(pool) == ["ApiKeyCreated"]


async def test_of_many_who_revoke_a_key_one_is_recorded(pool: Pool) -> None:
    token = await api_keys.create(pool, label="a", scope=Scope("acme"))
    key_id = api_keys.key_id_of(token)
    revoked = await asyncio.gather(*(api_keys.revoke(pool, key_id) for _ in range(8)))
    assert len({key and key.revoked_at for key in revoked}) == 1
    assert await written(pool) == ["ApiKeyCreated", "ApiKeyRevoked"]


async def test_a_flood_of_failed_log_ons_is_a_record_for_each_source(pool: Pool) -> None:
    refusals = Refusals()
    for number in range(5_000):
        refusals.log_on_failed("api", f"{number:08x}", Origin(sourceaddress="192.0.2.1"))
        refusals.log_on_failed("api", "", Origin(sourceaddress=f"2001:db8::{number:x}"))  # of one network
    for number in range(MAX_SOURCES + 500):
        refusals.log_on_failed("api", "", Origin(sourceaddress=f"10.0.{number // 250}.{number % 250}"))
    await refusals.write(pool)

    records, _ = await list_records(pool, AccessLogFilter(), 0, 10_000)
    attempts = {one.get("sourceaddress"): one["data"]["attempts"] for one in records}

    assert len(records) == len(attempts) == MAX_SOURCES + 1
    assert (attempts["192.0.2.1"], attempts["2001:db8::0"], attempts[None]) == (5_000, 5_000, 502)


async def test_keys_that_there_are_are_told_apart(pool: Pool) -> None:
    refusals, origin = Refusals(), Origin(sourceaddress="192.0.2.1")
    key_ids = [
        api_keys.key_id_of(await api_keys.create(pool, label="k", scope=Scope("acme")))
        for _ in range(MAX_KEYS_PER_SOURCE + 2)
    ]
    for key_id in key_ids:
        refusals.log_on_failed("console", key_id, origin)
    refusals.log_on_failed("console", "", origin)
    await refusals.write(pool)

    records, _ = await list_records(pool, AccessLogFilter(types=("LogOnFailed",)), 0, 100)
    assert [one["data"].get("key_id") for one in records] == [None, *key_ids[:MAX_KEYS_PER_SOURCE]]
    assert records[0]["data"]["attempts"] == 3
    assert [one.get("accountid") for one in records] == [None] + ["acme"] * MAX_KEYS_PER_SOURCE


async def test_refusals_are_written_when_the_gateway_stops(pool: Pool) -> None:
    refusals = Refusals()
    running = asyncio.create_task(refusals.run(pool))
    await asyncio.sleep(0)
    refusals.denied("GET /v1/channels", Concerned("acme"), Actor(Origin(), "api-key:x"))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert await written(pool) == ["OperationDenied"]


@pytest.fixture
async def broker(shared_servers: Servers) -> str:
    await apply_topics(shared_servers.bootstrap_servers, PARTITIONS, {})
    return shared_servers.bootstrap_servers


async def fill(pool: Pool, account: str, count: int) -> list[str]:
    for number in range(count):
        await record(pool, ApiKeyRevoked(key_id=str(number), label=""), Concerned(account), COMMAND_LINE)
    return [str(number) for number in range(count)]


async def published(broker: str, account: str) -> list[str]:
    return [json.loads(one.value)["data"]["key_id"] for one in await published_records(broker, account)]


async def test_several_relays_publish_each_record_once_and_in_order(pool: Pool, broker: str) -> None:
    account = fresh("acct")
    written_ids = await fill(pool, account, 1_200)
    relays = [AccessLogRelay(pool, broker, {}) for _ in range(3)]

    async def drain(relay: AccessLogRelay) -> None:
        while await pool.fetchval("SELECT count(*) FROM gateway.access_log WHERE NOT published"):
            await relay.publish()
        await relay.close()

    await asyncio.gather(*map(drain, relays))

    assert await published(broker, account) == written_ids
    assert await relays[0].publish() == 0


async def test_a_relay_that_dies_is_succeeded_and_repeats_only_the_ids_it_published(pool: Pool, broker: str) -> None:
    account = fresh("acct")
    written_ids = await fill(pool, account, 30)

    def crash(_: str) -> None:
        raise Crash

    dying, next_one = AccessLogRelay(pool, broker, {}, crash), AccessLogRelay(pool, broker, {})
    with pytest.raises(Crash):
        await dying.publish()
    await next_one.publish()
    await asyncio.gather(dying.close(), next_one.close())

    assert await published(broker, account) == written_ids * 2
    repeats = [one.value for one in await published_records(broker, account)]
    assert repeats[:30] == repeats[30:]


async def test_a_relay_that_hangs_does_not_keep_the_others_from_publishing(database_url: str, broker: str) -> None:
    """It hangs as in a stopped process: its event loop, in a thread of its own, answers nobody."""
    account, hangs, go = fresh("acct"), threading.Event(), threading.Event()
    pool = await pool_of(Settings(database_url=database_url), size=2)
    await migrate(pool, "gateway", MIGRATIONS)
    written_ids = await fill(pool, account, 3)

    def hang(_: str) -> None:
        hangs.set()
        go.wait()

    async def publish_and_hang() -> None:
        own = await pool_of(Settings(database_url=database_url), size=1, resets=False, takes_over=True)
        relay = AccessLogRelay(own, broker, {}, hang)
        with pytest.raises(OUTAGES):
            await relay.publish()
        await relay.close()
        own.terminate()

    hanging = asyncio.create_task(asyncio.to_thread(asyncio.run, publish_and_hang()))
    await asyncio.to_thread(hangs.wait)
    relay = AccessLogRelay(pool, broker, {})
    assert await relay.publish() == 0
    async with asyncio.timeout(IDLE_TRANSACTION_S + 10):
        while await relay.publish() == 0:  # noqa: ASYNC110 -- the database tells nobody
            await asyncio.sleep(0.2)
    go.set()
    await hanging
    await relay.close()
    await pool.close()
    assert await published(broker, account) == written_ids * 2


async def test_records_that_are_not_committed_are_not_published(pool: Pool, broker: str) -> None:
    account = fresh("acct")
    relay = AccessLogRelay(pool, broker, {})
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await record(connection, ApiKeyRevoked(key_id="0", label=""), Concerned(account), COMMAND_LINE)
        assert await relay.publish() == 0
        await transaction.rollback()
    assert await relay.publish() == 0
    await fill(pool, account, 1)
    assert await relay.publish() == 1
    await relay.close()


async def test_records_are_deleted_once_the_topic_keeps_them_no_longer(pool: Pool, broker: str) -> None:
    account = fresh("acct")
    await fill(pool, account, 3)
    old = timedelta(days=topics.ACCESS_LOG_DAYS, hours=1)
    await pool.execute("UPDATE gateway.access_log SET time = time - $1::interval WHERE number <= 2", old)
    running = asyncio.create_task(AccessLogRelay(pool, broker, {}).run())
    async with asyncio.timeout(PATIENCE_S):
        while len(await written(pool)) > 1:  # noqa: ASYNC110 -- the database tells nobody
            await asyncio.sleep(0.05)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert len(await published(broker, account)) == 3  # none was deleted unpublished

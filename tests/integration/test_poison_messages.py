"""A message whose handling raises is answered alone. Rows of the database are damaged, so that reading them raises."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import asyncpg
import pytest
import structlog
from aiokafka import TopicPartition

from contracts.partitioner import partition_of
from services.infrastructure.checkpointed_commits import CheckpointedCommits, NotAtCheckpoint
from services.infrastructure.checkpoints import MIGRATIONS as CHECKPOINTS
from services.infrastructure.consumer_metrics import ConsumerMetrics
from services.infrastructure.postgres import Pool, migrate
from services.invoker import metrics as invoker_metrics
from services.invoker.requests.ingest import Ingest
from services.message_router.metrics import families
from services.message_router.ownership import NAME
from services.schema_validation.validator import SchemaValidator
from tests import ingest_database
from tests.exposition import exposition
from tests.installation import Installation, fresh
from tests.message_router_database import (
    INDIAN,
    LogWithEnd,
    Record,
    RouterDatabase,
    command,
    message,
    now_ms,
    router_database,
    status,
)
from tests.messages import SINGAPOREAN, scheduled_channel

REQUESTS = TopicPartition("switchboard.message-requests", 1)
DAMAGED = "UPDATE message_router.messages SET decision = '{}' WHERE message = 'damaged'"


@pytest.fixture
async def router(database_url: str) -> AsyncIterator[RouterDatabase]:
    async with router_database(database_url) as made:
        await made.settings(sms=True)
        yield made


def commits(pool: Pool, at: int = 0) -> CheckpointedCommits:
    return CheckpointedCommits(pool, NAME, REQUESTS, at, lambda: None, ConsumerMetrics(NAME))


def in_order(*records: Record) -> list[Record]:
    return [
        Record(record.value, record.key, REQUESTS.topic, REQUESTS.partition, offset)
        for offset, record in enumerate(records)
    ]


async def apply(router: RouterDatabase, *records: Record) -> int:
    """Applies the records as the consumer does; returns the next offset."""
    made = commits(router.pool)
    await made.commit_around_poison(in_order(*records), router.ingest.apply, router.ingest.set_aside)
    return made.next_offset


async def test_one_request_that_raises_is_refused_and_the_others_are_decided(router: RouterDatabase) -> None:
    await router.apply(message("damaged"))
    await router.pool.execute(DAMAGED)
    others = [message(f"m{number}") for number in range(6)]
    with structlog.testing.capture_logs() as logged:
        assert await apply(router, *others[:3], message("damaged"), *others[3:]) == 7
    told = (await router.told())[1:]
    assert ("damaged", "RoutingRefused", "InternalError") in told
    assert [one[0] for one in told if one[1] == "MessageRouted"] == [f"m{number}" for number in range(6)]
    [letter] = await router.pool.fetch("SELECT * FROM message_router.outbox WHERE topic = 'switchboard.dead-letters'")
    headers = dict(zip(letter["headers"][::2], letter["headers"][1::2], strict=True))
    assert (letter["value"], headers["offset"]) == (None, "3")
    assert headers["reason"] == "its handling raised ValidationError"
    assert 'poison_total{kind="switchboard.message-requests"} 1.0' in exposition(await families(router.pool)).decode()
    [line] = [one for one in logged if one["event"] == "poison message set aside"]
    assert "decisions.py" in line["stack"]
    assert INDIAN not in json.dumps(logged, default=str)


async def test_a_status_that_raises_is_refused(router: RouterDatabase) -> None:
    await router.apply(message("damaged"))
    await router.pool.execute("UPDATE message_router.messages SET seen = '{once}'")
    assert await apply(router, status("damaged", "sent"), message("m1")) == 2
    assert [one[1:] for one in (await router.told())[1:]] == [
        ("StatusRefused", "InternalError"),
        ("MessageRouted", "failed"),
    ]


async def test_a_refused_request_may_be_sent_again_once_the_damage_is_mended(router: RouterDatabase) -> None:
    await router.pool.execute("UPDATE message_router.channels SET spend_guard = '[]'")
    await apply(router, message("m1"))
    await router.pool.execute("UPDATE message_router.channels SET spend_guard = NULL")
    await router.apply(message("m1"))
    assert [one[1:] for one in await router.told()] == [
        ("RoutingRefused", "InternalError"),
        ("MessageRouted", "failed"),
    ]


async def test_what_is_not_the_records_fault_sets_nothing_aside(router: RouterDatabase, database_url: str) -> None:
    records = in_order(message("m1"), message("m2"))
    async with asyncpg.create_pool(
        database_url, min_size=1, max_size=2, server_settings={"default_transaction_read_only": "on"}
    ) as read_only:
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await commits(read_only).commit_around_poison(records, router.ingest.apply, router.ingest.set_aside)
    await apply(router, *records)
    with pytest.raises(NotAtCheckpoint):
        await commits(router.pool).commit_around_poison(records, router.ingest.apply, router.ingest.set_aside)
    assert [one[1] for one in await router.told()] == ["MessageRouted", "MessageRouted"]


async def test_a_timer_that_raises_is_put_off_and_the_others_fire(router: RouterDatabase) -> None:
    fallback = {"to": INDIAN, "on": ["failed"]}
    names = ("m1", "damaged", "m2")
    await router.apply(*(message(name, sms_fallback=fallback) for name in names))
    await router.pool.execute("UPDATE message_router.messages SET seen = '{once}' WHERE message = 'damaged'")
    await router.pool.execute(
        "INSERT INTO switchboard.checkpoints VALUES ($1, 'switchboard.events', $2, 1)", NAME, partition_of("ch", 4)
    )
    await router.timers.run_once(now_ms())
    told = await router.told()
    assert [one[0] for one in told if one[1] == "SmsFallbackDue"] == ["m1", "m2"]
    put_off = await router.pool.fetchval("SELECT next_timer FROM message_router.messages WHERE message = 'damaged'")
    assert put_off > now_ms() + 30 * 60_000
    assert 'poison_total{kind="timer"} 1.0' in exposition(await families(router.pool)).decode()


async def test_a_waiting_request_that_raises_is_refused_and_the_others_are_decided(router: RouterDatabase) -> None:
    await router.event("SmsActivated", 4, {})
    neighbour = next(name for name in map(str, range(99)) if partition_of(name, 4) == partition_of("ch", 4))
    await router.event(
        "ChannelRegistered", 1, {"channel_type": "line", "name": "S", "enterprise_authenticated": False}, neighbour
    )
    otp = {"recipient": INDIAN, "category": "authentication", "settings_version": 9}
    await router.apply(command("RouteMessage", "m2", otp, neighbour), message("m1", settings_version=9))
    await router.pool.execute("UPDATE message_router.channels SET version = 9")
    await router.pool.execute("UPDATE message_router.channels SET spend_guard = '[]' WHERE channel = $1", neighbour)
    await router.resolve(LogWithEnd(-1))
    assert sorted(await router.told()) == [("m1", "MessageRouted", "failed"), ("m2", "RoutingRefused", "InternalError")]
    assert await router.pool.fetchval("SELECT count(*) FROM message_router.messages WHERE state = 'waiting'") == 0


async def test_one_call_that_raises_is_refused_and_the_others_become_deliveries(database_url: str) -> None:
    async with ingest_database.ingest_pool(database_url) as pool:
        await migrate(pool, "checkpoints", CHECKPOINTS)
        ingest = Ingest(SchemaValidator())
        bad = ingest_database.request("bad", data={"data": {"order": 1}})
        await ingest_database.apply(pool, bad)
        await pool.execute("UPDATE invoker.deliveries SET body = 'no JSON'")
        requests = ingest_database.request("r1"), bad, ingest_database.request("r2")
        records = in_order(*(Record(one.value) for one in requests))
        made = commits(pool)
        await made.commit_around_poison(records, ingest.apply, ingest.set_aside)
        assert made.next_offset == 3
        assert set(await ingest_database.rows(pool)) == {"bad", "r1", "r2"}
        [refused] = await ingest_database.outcomes(pool)
        assert (refused["causationid"], refused["data"]["reason"]) == ("bad", "InternalError")
        assert await pool.fetchval("SELECT count(*) FROM invoker.outbox WHERE topic = 'switchboard.dead-letters'") == 1
        assert b"switchboard_invocation_poison_total 1.0" in exposition(await invoker_metrics.families(pool))


async def test_a_damaged_channel_stops_no_other_of_its_partition(installation: Installation) -> None:
    """The running service: many channels, so that some share a partition with the damaged one."""
    account, victim = fresh("acct"), fresh("acct")
    damaged, _ = await scheduled_channel(installation, account)
    others = [(await scheduled_channel(installation, victim))[0] for _ in range(8)]
    otp = {"recipient": SINGAPOREAN, "category": "authentication"}
    database = await asyncpg.connect(installation.settings.database_url)
    damage = "UPDATE message_router.channels SET spend_guard = $2 WHERE channel = $1"
    try:
        async with installation.api(account) as api, installation.api(victim) as other:
            assert (await api("POST", f"channels/{damaged}/message-decisions", otp)).status == 200
            await database.execute(damage, damaged, "[]")
            answer = await api("POST", f"channels/{damaged}/message-decisions", otp)
            assert (answer.status, answer.body["reason"]) == (500, "InternalError")
            answers = [await other("POST", f"channels/{name}/message-decisions", otp) for name in others]
            assert {one.status for one in answers} == {200}
    finally:
        await database.execute(damage, damaged, None)
        await database.close()

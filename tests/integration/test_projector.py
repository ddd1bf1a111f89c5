"""Invariant 6 on a broker and a database of our own, which may be killed: the read model is the fold of the log."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition

from contracts import topics
from contracts.cursor import Position
from contracts.envelope import EventEnvelope
from contracts.message_types import EVENTS
from projections import MIGRATIONS as PROJECTION_MIGRATIONS
from projections.settings import fold as settings_fold
from projections.settings import queries as settings_queries
from services.audit.log.recorded_event import fold, parse_event
from services.audit.timeline.channel_settings import channel_settings
from services.domain.state import ChannelState
from services.infrastructure.checkpointed_commits import NotAtCheckpoint
from services.infrastructure.checkpoints import MIGRATIONS as CHECKPOINT_MIGRATIONS
from services.infrastructure.embedded.kafka import EmbeddedKafka
from services.infrastructure.embedded.postgres import EmbeddedPostgres
from services.infrastructure.kafka_to_postgres import Consumer
from services.infrastructure.postgres import Pool, migrate, pool_of
from services.projector.models import HISTORY, SETTINGS
from tests.installation import Installation, fresh, fresh_database
from tests.migrations import migrate_down
from tests.read_models import assert_equals_fold, load, until_caught_up

pytestmark = pytest.mark.timeout(180)  # a busy machine takes its time to start a broker

GOLDEN = Path(__file__).parents[1] / "golden"
NOW = "2026-09-21T14:21:00.000Z"


@pytest.fixture(scope="module")
def own_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), durable=False) as database:
        yield database


@pytest.fixture(scope="module")
def running(
    own_kafka: EmbeddedKafka, own_postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    directory = tmp_path_factory.mktemp("projecting")
    with Installation(
        own_kafka.bootstrap_servers, own_postgres.dsn, directory, services=("decider", "projector")
    ) as installation:
        yield installation


@pytest.fixture
async def pool(running: Installation) -> AsyncIterator[Pool]:
    pool = await pool_of(running.settings, size=2)
    yield pool
    await pool.close()


async def loaded(running: Installation, seed: int, meanwhile: Any) -> dict[str, int]:
    """Random commands with ``meanwhile`` happening to the installation; the version of each channel afterwards."""
    random, channels = Random(seed), [fresh("ch") for _ in range(12)]  # noqa: S311 -- repeatable, not secret
    async with running.publisher("acme") as publisher:
        loading = asyncio.create_task(load(publisher, random, channels, 600))
        await meanwhile()
        assert await loading > 100
        outcomes = [await publisher.send_raw("ToggleSms", {"enabled": True}, channel=channel) for channel in channels]
    return {channel: outcome.version or 0 for channel, outcome in zip(channels, outcomes, strict=True)}


async def test_equal_after_every_kill(running: Installation, pool: Pool) -> None:
    """SIGKILL in the midst of a load, twice: equal at whatever point it was killed, and at the end."""

    async def kill() -> None:
        for _ in range(2):
            await asyncio.sleep(0.3)
            await asyncio.to_thread(running.kill, "projector")
            await assert_equals_fold(pool, running.bootstrap_servers)
            await asyncio.to_thread(running.restart, "projector")

    versions = await loaded(running, 1, kill)
    await until_caught_up(pool, versions)
    await assert_equals_fold(pool, running.bootstrap_servers)


async def test_equal_after_postgres_restarts(running: Installation, pool: Pool, own_postgres: EmbeddedPostgres) -> None:
    async def restart() -> None:
        for kill in (False, True):
            await asyncio.sleep(0.3)
            await asyncio.to_thread(own_postgres.kill if kill else own_postgres.stop)
            await asyncio.to_thread(own_postgres.start)

    versions = await loaded(running, 2, restart)
    await pool.expire_connections()
    again = await pool_of(running.settings, size=1)
    await until_caught_up(again, versions)
    await assert_equals_fold(again, running.bootstrap_servers)
    await again.close()
    assert running.services["projector"].process is not None
    assert running.services["projector"].process.poll() is None, "it outlives its database"


async def test_two_projectors_share_the_partitions(running: Installation, pool: Pool) -> None:
    """A second one comes in the midst of a load, and goes again: two rebalances."""
    second = running.child("projector", "-second")

    async def come_and_go() -> None:
        await asyncio.to_thread(second.start)
        await asyncio.to_thread(second.wait_until_ready)
        await asyncio.sleep(0.5)
        await asyncio.to_thread(second.stop)
        await asyncio.to_thread(second.wait)

    versions = await loaded(running, 3, come_and_go)
    await until_caught_up(pool, versions)
    await assert_equals_fold(pool, running.bootstrap_servers)


# Without a broker: what one batch does to the tables.


def golden(file: str = "events.jsonl") -> list[bytes]:
    return (GOLDEN / file).read_bytes().splitlines()


def record(offset: int, value: bytes, partition: int = 0) -> Any:
    return SimpleNamespace(
        topic=topics.EVENTS.name, partition=partition, offset=offset, value=value, key=None, headers=()
    )


@pytest.fixture
async def tables(running: Installation, own_postgres: EmbeddedPostgres) -> AsyncIterator[Pool]:
    pool = await pool_of(running.settings.model_copy(update={"database_url": fresh_database(own_postgres.dsn)}), size=2)
    await migrate(pool, "checkpoints", CHECKPOINT_MIGRATIONS)
    await migrate(pool, "projections", PROJECTION_MIGRATIONS)
    yield pool
    await pool.close()


async def apply(pool: Pool, records: list[Any], partition: int = 0) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await SETTINGS.live_appliers()[topics.EVENTS.name](connection, partition, records)


async def shown(pool: Pool, channel: str) -> Any:
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
        found = await settings_queries.channel_settings(connection, None, channel, NOW)
    return None if found is None else found[0]


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
async def test_every_event_type_is_applied(tables: Pool, size: int) -> None:
    """However the golden histories are cut into batches, each batch leaves what the domain's own fold has."""
    stories = {"golden-1": golden(), "golden-2": golden("later_events.jsonl")}
    assert {json.loads(value)["type"] for values in stories.values() for value in values} == EVENTS.keys()
    for partition, (channel, values) in enumerate(stories.items()):
        records = [record(offset, value, partition) for offset, value in enumerate(values)]
        await _assert_applied_as_folded(tables, channel, records, size)


async def _assert_applied_as_folded(tables: Pool, channel: str, records: list[Any], size: int) -> None:
    state = ChannelState()
    for start in range(0, len(records), size):
        batch = records[start : start + size]
        await apply(tables, batch, records[0].partition)
        for one in batch:
            one.timestamp = 0
            state = fold(state, parse_event(one))
        clock = 1_790_000_460_000
        assert channel_settings(channel, state, clock) == await shown_at(tables, channel, clock)


async def shown_at(pool: Pool, channel: str, clock: int) -> Any:
    from contracts.message import rfc3339

    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
        found = await settings_queries.channel_settings(connection, None, channel, rfc3339(clock))
    return None if found is None else found[0]


async def test_the_migration_to_sections_carries_the_settings_forward_and_back(tables: Pool) -> None:
    await apply(tables, [record(offset, value) for offset, value in enumerate(golden()[:2])])
    await tables.execute(
        "INSERT INTO settings_v1.channels SELECT 'golden-2', account, channel_type, name, provider, retired, version, "
        """channel_changed, '{"sms": {"settings": {"enabled": true}, "changed": 4}, "otp-scheduling": {"settings": """
        """{"enabled": true, "countries": ["BR", "ID"], "use_own_numbers": true}, "changed": 5}}', 2 """
        "FROM settings_v1.channels"
    )
    before = await tables.fetch("SELECT * FROM settings.channels ORDER BY channel")
    await migrate_down(tables, "projections", PROJECTION_MIGRATIONS, to="0005_room")
    columns = await tables.fetch("SELECT * FROM settings.channels ORDER BY channel")
    assert [(row["sms_enabled"], row["sms_changed"]) for row in columns] == [(False, 0), (True, 4)]
    assert [(row["otp_countries"], row["otp_changed"]) for row in columns] == [([], 0), (["BR", "ID"], 5)]
    assert [(row["otp_enabled"], row["otp_use_own_numbers"]) for row in columns] == [(False, False), (True, True)]
    await migrate(tables, "projections", PROJECTION_MIGRATIONS)
    after = await tables.fetch("SELECT * FROM settings.channels ORDER BY channel")
    assert [dict(row) | {"closed_changed": 0} for row in after] == [dict(row) | {"closed_changed": 0} for row in before]
    assert [row["closed_changed"] for row in after] == [row["version"] for row in after]


async def test_deleted_and_opened_again_in_one_batch_starts_empty(tables: Pool) -> None:
    """Rows of the old life that the batch itself never names are gone too."""
    history = [EventEnvelope.model_validate_json(value) for value in golden()[:13]]
    await apply(tables, [record(at, one.model_dump_json().encode()) for at, one in enumerate(history)])
    assert len((await shown(tables, "golden-1")).business_systems[0].intents) == 1

    def then(sequence: int, kind: str, data: dict[str, Any]) -> Any:
        more = {"type": kind, "sequence": sequence, "partitionsequence": sequence, "data": data}
        return record(sequence - 1, history[0].model_copy(update=more).model_dump_json().encode())

    opened = {"system": "crm", "name": "New", "api_request_url": "https://new.example/"}
    await apply(
        tables,
        [then(14, "BusinessSystemDeleted", {"system": "crm"}), then(15, "BusinessSystemOpened", opened)],
    )
    crm = (await shown(tables, "golden-1")).business_systems[0]
    assert (crm.name, crm.intents, crm.signatures, crm.remarks) == ("New", (), (), "")


async def test_events_of_a_newer_type_move_the_version_alone(tables: Pool) -> None:
    first = EventEnvelope.model_validate_json(golden()[0])
    newer = first.model_copy(
        update={"type": "FaxActivated", "sequence": 2, "partitionsequence": 2, "data": {"code": 7, "system": ["x"]}}
    )
    await apply(tables, [record(0, golden()[0])])
    before = await shown(tables, "golden-1")
    await apply(tables, [record(1, newer.model_dump_json().encode())])
    assert await shown(tables, "golden-1") == before.model_copy(update={"version": 2})


@pytest.mark.parametrize(("tampering", "stands"), [("UPDATE {} SET version = 99", 99), ("DELETE FROM {}", 0)])
async def test_a_channel_that_stands_elsewhere_is_a_gap(tables: Pool, tampering: str, stands: int) -> None:
    """Its row is changed without being read; it must be at the version before all the same."""
    await apply(tables, [record(0, golden()[0])])
    await tables.execute(tampering.format("settings_v1.channels"))
    with pytest.raises(settings_fold.SequenceGap, match=f"event 2 of 'golden-1' came after version {stands}"):
        await apply(tables, [record(1, golden()[1])])


async def test_a_zombie_is_refused_by_the_checkpoint(running: Installation, tables: Pool) -> None:
    """A process that was paused while another went on believes its old position: nothing of its batch stays."""
    home = TopicPartition(topics.EVENTS.name, 0)
    kafka = SimpleNamespace(commit=lambda *_: asyncio.sleep(0), seek=lambda *_: None, assignment=lambda: {home})
    records = [record(offset, value) for offset, value in enumerate(golden())]
    live, zombie = (Consumer(running.settings, tables, "test", SETTINGS.live_appliers()) for _ in range(2))
    for consumer in (live, zombie):
        consumer._next[home] = Position(0, 0)
    await live._apply_batch(kafka, home, records[:12])
    with pytest.raises((NotAtCheckpoint, settings_fold.SequenceGap)):
        await zombie._apply_batch(kafka, home, records[:5])
    # A batch that would do no harm to the tables is refused all the same: by the checkpoint alone.
    zombie._appliers = {topics.EVENTS.name: lambda *_: asyncio.sleep(0)}
    with pytest.raises(NotAtCheckpoint):
        await zombie._apply_batch(kafka, home, records[:5])
    assert (await shown(tables, "golden-1")).version == 12
    assert await tables.fetchval("SELECT next_offset FROM switchboard.checkpoints WHERE consumer = 'test'") == 12


async def test_a_checkpoint_that_was_lost_is_begun_at_the_beginning(running: Installation, tables: Pool) -> None:
    """A database that lost its last commits in a crash lost the checkpoint with what it stood for: no hole is left."""
    home = TopicPartition(topics.EVENTS.name, 0)
    kafka = SimpleNamespace(
        commit=lambda *_: asyncio.sleep(0),
        seek=lambda *_: None,
        assignment=lambda: {home},
        partitions_for_topic=lambda _: {home.partition},
    )
    records = [record(offset, value) for offset, value in enumerate(golden())]
    consumer = Consumer(running.settings, tables, "lossy", HISTORY.live_appliers())
    await consumer._apply_batch(kafka, home, records[:5])
    await tables.execute("TRUNCATE switchboard.checkpoints, history_v1.entries, history_v1.resources")
    with pytest.raises(NotAtCheckpoint):
        await consumer._apply_batch(kafka, home, records[5:9])
    assert await tables.fetchval("SELECT count(*) FROM history.entries") == 0
    consumer._next.clear()
    await consumer._apply_batch(kafka, home, records[:9])
    assert await tables.fetchval("SELECT count(*) FROM history.entries") == 9

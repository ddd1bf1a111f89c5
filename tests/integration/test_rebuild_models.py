"""Rebuilding the history and the catalogue, sound and damaged, as the settings are rebuilt."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from random import Random

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from contracts import topics
from services.infrastructure.embedded.kafka import EmbeddedKafka
from services.infrastructure.postgres import Pool, pool_of
from services.projector.models import CATALOGUE, HISTORY, READ_MODELS, ReadModel
from services.projector.swap import rebuild, roll_back
from services.projector.versions import ModelVersions, versions_of
from tests.commands import run_here
from tests.faults.projector.rounds import check_other_models
from tests.installation import Installation, fresh_database
from tests.read_models import load, random_commands, until_caught_up
from tests.servers import Servers

pytestmark = pytest.mark.timeout(300)

CHANNELS = [f"ch-{number}" for number in range(8)]


@pytest.fixture(scope="module")
def running(
    own_kafka: EmbeddedKafka, shared_servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    with Installation(
        own_kafka.bootstrap_servers,
        fresh_database(shared_servers.dsn),
        tmp_path_factory.mktemp("rebuilding"),
        services=("decider", "projector"),
        partitions=2,
    ) as installation:
        yield installation


@pytest.fixture
async def pool(running: Installation) -> AsyncIterator[Pool]:
    pool = await pool_of(running.settings, size=10)
    yield pool
    await pool.close()


@pytest.fixture(autouse=True)
async def loaded(running: Installation, pool: Pool) -> None:
    """Some more events, all applied, among them intents."""
    async with running.publisher("acme") as publisher:
        await load(publisher, Random(await _count(pool)), CHANNELS, 60)  # noqa: S311 -- repeatable
        shop = {"channel_type": "whatsapp", "name": "Shop", "enterprise_authenticated": True}
        await publisher.send_raw("RegisterChannel", shop, channel="shop")  # nobody retires it
        system = {"system": "crm", "name": "CRM", "api_request_url": "https://crm.example/"}
        await publisher.send_raw("OpenBusinessSystem", system, channel="shop")
        await publisher.send_raw(
            "AddIntent", {"system": "crm", "code": "NOW", "name": "Now", "default_data": {}}, channel="shop"
        )
        outcomes = [await publisher.send_raw("ToggleSms", {"enabled": True}, channel=channel) for channel in CHANNELS]
    versions = {channel: outcome.version or 0 for channel, outcome in zip(CHANNELS, outcomes, strict=True)}
    await until_caught_up(pool, versions)
    await _settled(pool)


async def _count(pool: Pool) -> int:
    return await pool.fetchval("SELECT count(*) FROM history.entries") or 0


async def _settled(pool: Pool) -> None:
    """Waits until every read model of the events has read as far."""
    query = (
        "SELECT count(DISTINCT sequence) = 1 FROM switchboard.checkpoints "
        "WHERE topic = 'switchboard.events' AND consumer = ANY($1) GROUP BY partition"
    )
    names = [model.consumer for model in READ_MODELS.values()]
    async with asyncio.timeout(60):
        while not all(row[0] for row in await pool.fetch(query, names)):  # noqa: ASYNC110 -- nobody tells
            await asyncio.sleep(0.1)


async def switchboard(running: Installation, *arguments: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(run_here, running.environment, "projections", *arguments)


async def versions(pool: Pool, model: ReadModel) -> ModelVersions:
    async with pool.acquire() as connection:
        return await versions_of(connection, model.name)


@pytest.mark.parametrize("model", [HISTORY, CATALOGUE], ids=["history", "catalogue"])
async def test_rebuilt_and_rolled_back_while_commands_keep_coming(
    running: Installation, pool: Pool, model: ReadModel
) -> None:
    stop = asyncio.Event()

    async def send() -> None:
        random = Random(7)  # noqa: S311 -- repeatable
        async with running.publisher("acme") as publisher:
            while not stop.is_set():
                await publisher.send_many(random_commands(random, CHANNELS, 20), at_once=5)

    live = (await versions(pool, model)).live
    sending = asyncio.create_task(send())
    try:
        done = await switchboard(running, "rebuild", model.name)
        assert done.returncode == 0, done.stderr
        assert "equals the live version at the same cut" in done.stdout
        built = await versions(pool, model)
        assert (built.kept, built.building) == (live, None)
        assert await roll_back(running.settings, pool, model) == live
    finally:
        stop.set()
        await sending
    assert (await versions(pool, model)).live == live
    await _settled(pool)
    await check_other_models(pool, running.bootstrap_servers)


DAMAGES = [
    ("history", "UPDATE history.entries SET actor = 'eve' WHERE {event}", "entries events/"),
    ("history", "DELETE FROM history.entries WHERE {event}", "was built, and is not live"),
    ("history", "UPDATE history.resources SET fields = '{{}}' WHERE channel = 'shop'", "was built otherwise"),
    ("catalogue", "DELETE FROM catalogue.systems WHERE channel = 'shop'", "was built, and is not live"),
    ("catalogue", "INSERT INTO catalogue.systems VALUES ('none', 'x', 'X', false)", "systems none/x is live, and not"),
    (
        "catalogue",
        "UPDATE switchboard.checkpoints SET next_offset = 1000000 WHERE consumer = 'switchboard.projector-catalogue'",
        "",
    ),
]


@pytest.mark.parametrize(("name", "damage", "named"), DAMAGES, ids=[str(number) for number in range(len(DAMAGES))])
async def test_a_damaged_model_is_named_and_repaired(
    running: Installation, pool: Pool, name: str, damage: str, named: str
) -> None:
    model = READ_MODELS[name]
    live = (await versions(pool, model)).live
    event = "topic = 'events' AND channel = 'shop' AND version = 1"
    done = await pool.execute(damage.format(event=event))
    assert not done.endswith(" 0"), f"nothing was damaged: {done}"
    if named:
        refused = await switchboard(running, "rebuild", name)
        assert (refused.returncode, named in refused.stderr) == (2, True), refused.stderr
        assert (await versions(pool, model)).live == live
    await rebuild(running.settings, pool, model, accept_differences=True)
    assert (await versions(pool, model)).live > live
    await _settled(pool)
    await check_other_models(pool, running.bootstrap_servers)
    await rebuild(running.settings, pool, model)  # it finds no difference any more


async def test_rejections_that_the_topic_no_longer_has_are_kept(running: Installation, pool: Pool) -> None:
    async with running.publisher("acme") as publisher:
        for channel in CHANNELS:
            assert not (await publisher.send_raw("AddIntent", {"system": "no", "code": "X"}, channel=channel)).accepted
    query = "SELECT id, partition, rejection, data::text FROM history.entries WHERE topic = 'outcomes' ORDER BY id"
    async with asyncio.timeout(30):
        while len(before := await pool.fetch(query)) < len(CHANNELS):  # noqa: ASYNC110 -- nobody tells
            await asyncio.sleep(0.1)
    admin = AIOKafkaAdminClient(bootstrap_servers=running.bootstrap_servers)
    await admin.start()
    ends = await pool.fetch(
        "SELECT partition, max(log_offset) AS last FROM history.entries WHERE topic = 'outcomes' GROUP BY partition"
    )
    outcomes = {TopicPartition(topics.OUTCOMES.name, row["partition"]): row["last"] for row in ends}
    await admin.delete_records({tp: RecordsToDelete(before_offset=last) for tp, last in outcomes.items()})
    await admin.close()
    await rebuild(running.settings, pool, HISTORY)
    after = await pool.fetch(query)
    assert [row for row in before if row not in after] == []

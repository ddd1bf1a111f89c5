"""A database that lost commits which it had acknowledged: the projector reads the lost part again, without a new event.

So it is after a crash under ``synchronous_commit=off``, a failover to an asynchronous replica, or a restored backup.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from random import Random

import pytest

from services.infrastructure.embedded.kafka import EmbeddedKafka
from services.infrastructure.postgres import Pool, pool_of
from tests.installation import Installation, fresh, fresh_database
from tests.patience import PATIENCE_S
from tests.read_models import assert_equals_fold, load, until_caught_up
from tests.servers import Servers

pytestmark = pytest.mark.timeout(180)  # a busy machine takes its time to start a broker

_TABLES = (
    "switchboard.checkpoints",
    *("settings_v1.channels", "settings_v1.business_systems", "settings_v1.intents"),
    *("history_v1.entries", "history_v1.resources", "catalogue_v1.systems", "catalogue_v1.intents"),
)


@pytest.fixture(scope="module")
def running(
    own_kafka: EmbeddedKafka, shared_servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    with Installation(
        own_kafka.bootstrap_servers,
        fresh_database(shared_servers.dsn),
        tmp_path_factory.mktemp("lossy"),
        services=("decider", "projector"),
    ) as installation:
        yield installation


@pytest.fixture
async def pool(running: Installation) -> AsyncIterator[Pool]:
    pool = await pool_of(running.settings, size=1)
    yield pool
    await pool.close()


async def _loaded(running: Installation, pool: Pool, seed: int) -> dict[str, int]:
    """Random commands, all of them applied; the version of each channel."""
    random, channels = Random(seed), [fresh("ch") for _ in range(6)]  # noqa: S311 -- repeatable, not secret
    async with running.publisher("acme") as publisher:
        assert await load(publisher, random, channels, 100) > 10
        outcomes = [await publisher.send_raw("ToggleSms", {"enabled": True}, channel=channel) for channel in channels]
    versions = {channel: outcome.version or 0 for channel, outcome in zip(channels, outcomes, strict=True)}
    await until_caught_up(pool, versions)
    return versions


async def _counts(pool: Pool) -> dict[str, int]:
    """Table -> number of rows."""
    return {table: await pool.fetchval(f"SELECT count(*) FROM {table}") for table in _TABLES}  # noqa: S608 -- constants


async def _settled(pool: Pool) -> dict[str, int]:
    """`_counts` when every read model has caught up."""
    counts = await _counts(pool)
    while True:
        await asyncio.sleep(0.5)
        if counts == (counts := await _counts(pool)):
            return counts


async def _until(pool: Pool, counts: dict[str, int]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if await _counts(pool) == counts:
                return
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
async def test_lost_commits_are_applied_again_without_a_new_event(
    running: Installation,
    pool: Pool,
    restarted: bool,  # noqa: FBT001 -- a parameter of the test
) -> None:
    """A running projector remembers more than the database; a restarted one has Kafka's group offsets beyond it."""
    versions = await _loaded(running, pool, seed=5 + restarted)
    counts = await _settled(pool)
    if restarted:
        await asyncio.sleep(1.5)  # the group's offsets are committed
        await asyncio.to_thread(running.kill, "projector")
    await pool.execute(f"TRUNCATE {', '.join(_TABLES)}")
    if restarted:
        await asyncio.to_thread(running.restart, "projector")
    await until_caught_up(pool, versions)
    await _until(pool, counts)
    await assert_equals_fold(pool, running.bootstrap_servers)

"""A whole installation whose partitions grow under load: read models, feed, calls, audits and rebuilds go on."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from contracts.kafka.subscriber import Subscriber
from contracts.partitioner import partition_of
from services.infrastructure.embedded.kafka import EmbeddedKafka
from services.infrastructure.postgres import pool_of
from tests.commands import run_here
from tests.installation import Api, Installation, fresh_database
from tests.patience import PATIENCE_S
from tests.read_models import URL, assert_equals_fold, load, until_caught_up
from tests.servers import Servers

BEFORE, AFTER = 2, 4
CHANNELS = [f"ch-{number}" for number in range(12)]
MOVED = next(one for one in CHANNELS if partition_of(one, AFTER) >= BEFORE)
SERVICES = ("decider", "projector", "invoker", "message-router", "gateway")
OTP = {"category": "authentication", "recipient": "+6281234567890"}


@pytest.fixture
def installation(own_kafka: EmbeddedKafka, shared_servers: Servers, tmp_path: Path) -> Iterator[Installation]:
    dsn = fresh_database(shared_servers.dsn)
    with Installation(own_kafka.bootstrap_servers, dsn, tmp_path, services=SERVICES, partitions=BEFORE) as running:
        yield running


class Reader:
    """Follows the changes from the beginning, over Kafka."""

    def __init__(self, servers: str) -> None:
        self.versions: dict[str, list[int]] = defaultdict(list)
        self._task = asyncio.create_task(self._read(servers))

    async def _read(self, servers: str) -> None:
        async for change in Subscriber(servers).changes("beginning"):
            self.versions[change.event.subject].append(change.event.sequence)

    async def until(self, versions: dict[str, int]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while any(self.versions[one][-1:] != [version] for one, version in versions.items()):
                await asyncio.sleep(0.05)
                if self._task.done():
                    await self._task
        self._task.cancel()
        assert self.versions == {one: list(range(1, version + 1)) for one, version in versions.items()}


async def changes(api: Api, cursor: str) -> dict[str, list[int]]:
    """The versions of the channels in the order in which the feed has them."""
    found: dict[str, list[int]] = defaultdict(list)
    more = True
    while more:
        answer = (await api("GET", f"changes?limit=500&cursor={cursor}")).body
        for change in answer["changes"]:
            found[change["subject"]].append(change["sequence"])
        cursor, more = answer["cursor"], answer["more"]
    return found


async def command(installation: Installation, *arguments: str) -> Any:
    return await asyncio.to_thread(run_here, installation.environment, *arguments)


@pytest.mark.timeout(300)
async def test_everything_goes_on(installation: Installation) -> None:
    servers, random = installation.bootstrap_servers, Random(5)  # noqa: S311 -- repeatable, not secret
    reader = Reader(servers)
    async with installation.publisher("acme") as publisher, installation.api("acme") as api:
        await load(publisher, random, CHANNELS, 150, timeout=PATIENCE_S)
        before = (await api("GET", f"channels/{CHANNELS[0]}/settings")).headers["Switchboard-Cursor"]
        loading = asyncio.create_task(load(publisher, random, CHANNELS, 300, at_once=4, timeout=PATIENCE_S))
        grown = await command(installation, "topics", "grow", "--partitions", str(AFTER))
        assert grown.returncode == 0, grown.stdout + grown.stderr
        await loading
        sent = [await publisher.send_raw("EditChannel", {"name": "grown"}, channel=one) for one in CHANNELS]
        versions = {one: outcome.version or 0 for one, outcome in zip(CHANNELS, sent, strict=True)}

        pool = await pool_of(installation.settings, size=4)
        try:
            await until_caught_up(pool, versions, timeout=PATIENCE_S)
            await assert_equals_fold(pool, servers)
        finally:
            await pool.close()
        await reader.until(versions)
        whole = await changes(api, "beginning")
        assert whole == {one: list(range(1, version + 1)) for one, version in versions.items()}
        for channel, later in (await changes(api, before)).items():
            assert later == list(range(versions[channel] - len(later) + 1, versions[channel] + 1))

        # A call, and a message, of a channel that has moved.
        opened = await api("PUT", f"channels/{MOVED}/business-systems/own", {"name": "Own", "api_request_url": URL})
        assert opened.status in (200, 201), opened.body
        path = f"channels/{MOVED}/business-systems/own/test-calls?min_version={opened.body['version']}"
        called = await api("POST", path, {})
        assert called.status == 200, called.body
        asked = OTP | {"settings_version": opened.body["version"]}
        decided = await api("POST", f"channels/{MOVED}/message-decisions", asked)
        assert decided.status == 200, decided.body

    verified = await command(installation, "audit", "verify", "--database")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert f"{len(CHANNELS)} channels" in verified.stdout
    for model in ("settings", "history", "catalogue"):
        rebuilt = await command(installation, "projections", "rebuild", model)
        assert rebuilt.returncode == 0, rebuilt.stdout + rebuilt.stderr
    at = await command(installation, "audit", "at", "2", "--channel", MOVED)
    assert at.returncode == 0, at.stdout + at.stderr

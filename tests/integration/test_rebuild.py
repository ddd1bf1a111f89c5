"""Building the read model of settings anew while commands keep coming: readers notice nothing, and it is the same."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, nullcontext
from multiprocessing import active_children
from random import Random
from typing import Any

import pytest

from contracts.kafka.publisher import Publisher
from services.infrastructure.embedded.kafka import EmbeddedKafka
from services.infrastructure.postgres import Pool, pool_of
from services.projector import parallel_build, rebuild
from services.projector.models import SETTINGS
from services.projector.swap import rebuild as rebuild_and_swap
from services.projector.swap import roll_back, swap
from services.projector.versions import ModelVersions, versions_of
from tests.commands import run_here
from tests.installation import Installation, fresh
from tests.read_models import assert_equals_fold, load, random_commands, registrations, until_caught_up
from tests.servers import Servers

pytestmark = pytest.mark.timeout(180)

CHANNELS = [f"ch-{number}" for number in range(20)]


@pytest.fixture(scope="module")
def running(
    own_kafka: EmbeddedKafka, shared_servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    from tests.installation import fresh_database

    dsn = fresh_database(shared_servers.dsn)
    directory = tmp_path_factory.mktemp("rebuilding")
    services = ("decider", "projector", "gateway")
    with Installation(own_kafka.bootstrap_servers, dsn, directory, services=services) as installation:
        yield installation


@pytest.fixture
async def pool(running: Installation) -> AsyncIterator[Pool]:
    pool = await pool_of(running.settings, size=10)
    yield pool
    await pool.close()


async def switchboard(running: Installation, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "services.cli", "projections", *arguments]
    return await asyncio.to_thread(
        subprocess.run, command, env=running.environment, capture_output=True, text=True, check=False, timeout=120
    )


async def versions(pool: Pool) -> ModelVersions:
    async with pool.acquire() as connection:
        return await versions_of(connection, "settings")


@asynccontextmanager
async def readers(running: Installation) -> AsyncIterator[list[int]]:
    """Poll settings and lists all the while; each must answer, and none may show less than one before it did."""
    seen: dict[str, int] = {}
    counts = [0]
    stop = asyncio.Event()

    async def settings(api: Any, random: Random) -> None:
        while not stop.is_set():
            channel = random.choice(CHANNELS)
            at_least = seen.get(channel, 0)
            answer = await api("GET", f"channels/{channel}/settings")
            assert answer.status == 200, answer.body
            assert answer.body["version"] >= at_least, f"{channel} stepped back from {at_least}"
            assert answer.headers["Switchboard-Cursor"]
            seen[channel] = max(seen.get(channel, 0), answer.body["version"])
            counts[0] += 1
            await asyncio.sleep(0.005)

    async def lists(api: Any) -> None:
        while not stop.is_set():
            at_least = dict(seen)
            answer = await api("GET", "channels?limit=1000")
            assert answer.status == 200, answer.body
            for one in answer.body["channels"]:
                assert one["version"] >= at_least.get(one["channel"], 0), f"{one['channel']} stepped back"
                seen[one["channel"]] = max(seen.get(one["channel"], 0), one["version"])
            counts[0] += 1
            await asyncio.sleep(0.02)

    async with running.api("acme") as api:
        tasks = [asyncio.create_task(settings(api, Random(seed))) for seed in range(3)]  # noqa: S311 -- repeatable
        tasks.append(asyncio.create_task(lists(api)))
        try:
            yield counts
        finally:
            stop.set()
            await asyncio.gather(*tasks)


@asynccontextmanager
async def commands(publisher: Publisher) -> AsyncIterator[None]:
    """Keep coming until the end of the context."""
    stop = asyncio.Event()

    async def send() -> None:
        random = Random(1)  # noqa: S311 -- repeatable, not secret
        while not stop.is_set():
            await publisher.send_many(random_commands(random, CHANNELS, 20), at_once=5)

    sending = asyncio.create_task(send())
    try:
        yield
    finally:
        stop.set()
        await sending


async def settled(running: Installation, pool: Pool, publisher: Publisher) -> None:
    outcomes = [await publisher.send_raw("ToggleSms", {"enabled": True}, channel=channel) for channel in CHANNELS]
    shown = {channel: outcome.version or 0 for channel, outcome in zip(CHANNELS, outcomes, strict=True)}
    await until_caught_up(pool, shown)
    await assert_equals_fold(pool, running.bootstrap_servers)


async def test_rebuilt_and_rolled_back_while_commands_keep_coming(running: Installation, pool: Pool) -> None:
    async with running.publisher("acme") as publisher:
        await publisher.send_many(registrations(CHANNELS))
        await load(publisher, Random(2), CHANNELS, 300)  # noqa: S311 -- repeatable, not secret
        await settled(running, pool, publisher)
        async with readers(running) as counts, commands(publisher):
            done = await switchboard(running, "rebuild", "settings")
            assert done.returncode == 0, done.stderr
            assert "equals the live version at the same cut" in done.stdout
            assert await versions(pool) == ModelVersions(2, None, 1)
            await asyncio.sleep(0.5)
            assert await roll_back(running.settings, pool, SETTINGS) == 1
            assert await versions(pool) == ModelVersions(1, None, 2)
            await asyncio.sleep(0.5)
            assert await rebuild_and_swap(running.settings, pool, SETTINGS) == 3
            assert await versions(pool) == ModelVersions(3, None, 1)
            assert await pool.fetchval("SELECT to_regnamespace('settings_v2')") is None
        assert counts[0] > 50
        await settled(running, pool, publisher)


async def test_a_rebuild_that_was_killed_goes_on(
    running: Installation, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild, "_ROWS_A_WRITE", 1)
    monkeypatch.setattr(rebuild, "_RECORDS_A_POLL", 20)
    live = (await versions(pool)).live
    left = []
    for tries in range(3):  # each ends in one of its first transactions, as a kill would end it
        version = await rebuild.begin(pool, SETTINGS, restart=tries == 0)
        left.append(await rebuild.distance(pool, SETTINGS, version))
        target = await rebuild.offsets_of(pool, SETTINGS, SETTINGS.consumer)
        looks = 0

        def progress(_: int) -> None:
            nonlocal looks
            looks += 1  # a transaction looks once at each partition
            if looks > 2 * running.settings.partitions:
                raise KeyboardInterrupt

        async with rebuild.builder(running.settings, pool, SETTINGS, version, progress) as builder:
            with pytest.raises(KeyboardInterrupt):
                await builder.catch_up(target)
    assert left == sorted(left, reverse=True)
    assert left[0] > left[-1]
    assert await rebuild_and_swap(running.settings, pool, SETTINGS) == version
    assert (await versions(pool)).kept == live
    await assert_equals_fold(pool, running.bootstrap_servers)


async def test_processes_build_side_by_side_and_end_with_who_started_them(
    running: Installation, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel_build, "WORTHWHILE", 0)
    live = (await versions(pool)).live
    ended = asyncio.create_task(rebuild_and_swap(running.settings, pool, SETTINGS, restart=True))
    while not active_children():  # noqa: ASYNC110 -- nobody tells
        await asyncio.sleep(0.001)
    ended.cancel()
    await asyncio.gather(ended, return_exceptions=True)
    assert active_children() == []
    assert (await versions(pool)).live == live
    moved: list[int] = []
    async with running.publisher("acme") as publisher, readers(running), commands(publisher):
        version = await rebuild_and_swap(running.settings, pool, SETTINGS, bar=lambda *_: nullcontext(moved.append))
    assert version == (await versions(pool)).live > live
    assert sum(moved) > 100
    async with running.publisher("acme") as publisher:
        await settled(running, pool, publisher)


async def test_killed_by_a_signal_at_any_moment(running: Installation, pool: Pool) -> None:
    """Readers and what comes after see either the old version or the new one."""
    random = Random(3)  # noqa: S311 -- repeatable, not secret
    async with running.publisher("acme") as publisher, readers(running), commands(publisher):
        for _ in range(2):
            process = subprocess.Popen(  # noqa: ASYNC220 -- it is to be killed
                [sys.executable, "-m", "services.cli", "projections", "rebuild", "settings"],
                env=running.environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            await asyncio.sleep(random.uniform(1, 2.5))
            process.kill()
            await asyncio.to_thread(process.wait)
        await rebuild_and_swap(running.settings, pool, SETTINGS)
    async with running.publisher("acme") as publisher:
        await settled(running, pool, publisher)


async def test_a_live_model_that_differs_from_the_log_is_found_and_named(running: Installation, pool: Pool) -> None:
    async with running.publisher("acme") as publisher:
        await settled(running, pool, publisher)
    live = (await versions(pool)).live
    await pool.execute(f"UPDATE settings_v{live}.channels SET name = name || '!' WHERE channel = 'ch-3'")  # noqa: S608
    refused = await switchboard(running, "rebuild", "settings")
    assert refused.returncode == 2
    assert "channels ch-3 was built otherwise" in refused.stderr
    assert (await versions(pool)).live == live
    await rebuild_and_swap(running.settings, pool, SETTINGS, accept_differences=True)
    assert (await versions(pool)).live > live
    await assert_equals_fold(pool, running.bootstrap_servers)


async def test_a_reader_that_holds_on_to_the_views_delays_the_swap_and_no_reader(
    running: Installation, pool: Pool
) -> None:
    """Its snapshot, older than the swap, goes on seeing what it saw."""
    version = await rebuild.begin(pool, SETTINGS, restart=True)
    target = await rebuild.offsets_of(pool, SETTINGS, SETTINGS.consumer)
    async with rebuild.builder(running.settings, pool, SETTINGS, version, lambda _: None) as builder:
        await builder.catch_up(target)
        async with pool.acquire() as reader, reader.transaction(isolation="repeatable_read"):
            before = await reader.fetch("SELECT channel, version FROM settings.channels ORDER BY channel")
            swapping = asyncio.create_task(swap(pool, builder))
            await asyncio.sleep(1)
            assert await pool.fetchval("SELECT count(*) FROM settings.channels", timeout=5) == len(before)
            assert await reader.fetch("SELECT channel, version FROM settings.channels ORDER BY channel") == before
            assert not swapping.done()
        await asyncio.wait_for(swapping, 20)
    assert (await versions(pool)).live == version


async def told(running: Installation, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What says a command that changes nothing, and so needs no process of its own to be quick."""
    return await asyncio.to_thread(run_here, running.environment, "projections", *arguments)


async def test_status_and_what_cannot_be_done(running: Installation, pool: Pool) -> None:
    shown = await told(running, "status", "-o", "json")
    lines = [json.loads(line) for line in shown.stdout.splitlines()]
    assert {(one["model"], one["state"]) for one in lines} == {
        (f"settings v{(await versions(pool)).live}", "live"),
        (f"settings v{(await versions(pool)).kept}", "kept"),
        ("history v1", "live"),
        ("catalogue v1", "live"),
    }
    settings = [one for one in lines if one["model"].startswith("settings") and one["state"] == "live"]
    assert [one["events"] for one in settings] == [0] * len(settings)
    await asyncio.to_thread(running.kill, "projector")
    async with running.publisher("acme") as publisher:
        await publisher.send_raw("ToggleSms", {"enabled": False}, channel="ch-1")
    lines = [json.loads(line) for line in (await told(running, "status", "-o", "json")).stdout.splitlines()]
    behind = [one for one in lines if one["state"] == "live" and one["events"]]
    assert [(one["model"].split()[0], one["events"]) for one in behind] == [
        ("catalogue", 1), ("history", 1), ("settings", 1)
    ]  # fmt: skip
    assert all(0 < one["seconds"] < 120 for one in behind)
    unknown = await told(running, "rebuild", fresh("model"))
    assert (unknown.returncode, unknown.stdout) == (2, "")
    async with rebuild.alone(pool):
        with pytest.raises(rebuild.RebuildRefused, match="Another rebuild"):
            await rebuild_and_swap(running.settings, pool, SETTINGS)

"""`sizing`: what channels and events take: bytes in each topic and in the database, and memory of each service.

All channels are on one partition, so the rates are a partition's. A channel is registered, opens a business system, and
is changed three times. What it takes is the slope between few channels and many.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from dataclasses import dataclass, field

import aiohttp
import asyncpg

from contracts import topics
from services.gateway.database_schemas import apply_database
from services.infrastructure.config import Settings
from services.infrastructure.embedded.process import free_port
from services.infrastructure.postgres import pool_of
from tests.bench.load_driver import LoadDriver, changes, load_driver, registrations
from tests.bench.projection import caught_up
from tests.bench.report import Result
from tests.bench.testbed import Contestant, Testbed
from tests.bench.topic_pairs import OUR_TOPICS
from tests.installation import SERVICES

_FEW, _MANY = 2_000, 20_000
_TURNS = 3
_COMMANDS = 2 + _TURNS
_AT_ONCE = 2_000
_TOPICS = (topics.COMMANDS, topics.EVENTS, topics.OUTCOMES, topics.CHANNEL_STATE)
_EVENTS = "SELECT coalesce(max(sequence), 0) FROM switchboard.checkpoints WHERE topic = $1"
_LAG = "switchboard_consumer_lag_records{"
_QUIET_S = 2.0


@dataclass
class _Taken:
    """What everything takes at a number of channels, in bytes."""

    events: int
    database: int
    topics: dict[str, int]
    resident: dict[str, int]


@dataclass
class _Spent:
    """Seconds, summed over the same commands."""

    deciding: float = 0.0
    projecting: float = 0.0
    commands: int = 0
    processor: dict[str, float] = field(default_factory=dict)


async def run(testbed: Testbed) -> list[Result]:
    testbed.partitions = 1
    few, many = testbed.scaled(_FEW), testbed.scaled(_MANY, least=20)
    database = await asyncpg.connect(testbed.dsn)
    await _apply_schemas(testbed)
    ports = {name: free_port() for name in SERVICES}
    services: dict[str, Contestant] = {}
    with ExitStack() as running:
        for name in SERVICES:
            more = {"SWITCHBOARD_DATABASE_URL": testbed.dsn, "SWITCHBOARD_METRICS_PORT": str(ports[name])}
            more |= {"SWITCHBOARD_HTTP_PORT": str(free_port())}
            services[name] = running.enter_context(testbed.service(name, **more))
        async with load_driver(testbed.bootstrap_servers, testbed.partitions) as driver:
            await _fill(testbed, driver, database, range(few))
            await _until_quiet(ports)
            before = await _taken(testbed, database, services)
            spent = await _fill(testbed, driver, database, range(few, many), services)
            await _until_quiet(ports)
            after = await _taken(testbed, database, services)
    await database.close()
    return [_result(before, after, spent, few, many - few)]


async def _apply_schemas(testbed: Testbed) -> None:
    environment = testbed.environment() | {"SWITCHBOARD_DATABASE_URL": testbed.dsn}
    pool = await pool_of(Settings.from_environment(environment), size=1)
    try:
        await apply_database(pool)
    finally:
        await pool.close()


async def _fill(
    testbed: Testbed,
    driver: LoadDriver,
    database: asyncpg.Connection,
    channels: range,
    services: dict[str, Contestant] | None = None,
) -> _Spent:
    """Some thousand channels at a time, so that a transaction of the load's own stays small."""
    processes, spent = services or {}, _Spent()
    began = {name: one.processor_s() for name, one in processes.items()}
    for first in range(channels.start, channels.stop, _AT_ONCE):
        some = range(first, min(first + _AT_ONCE, channels.stop))
        for commands in (registrations(some), *(changes(some, turn) for turn in range(_TURNS))):
            started = time.perf_counter()
            spent.deciding += await driver.seconds_to_process(OUR_TOPICS, commands)
            spent.projecting += await caught_up(testbed, database) - started
    spent.commands = len(channels) * _COMMANDS
    spent.processor = {name: one.processor_s() - began[name] for name, one in processes.items()}
    return spent


async def _until_quiet(ports: dict[str, int]) -> None:
    """Waits until no service has a lag, and its memory has settled."""
    async with aiohttp.ClientSession() as session, asyncio.timeout(120):
        for port in ports.values():
            while True:
                async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
                    lines = (await answer.text()).splitlines()
                if not any(float(line.rpartition(" ")[2]) for line in lines if line.startswith(_LAG)):
                    break
                await asyncio.sleep(0.2)
    await asyncio.sleep(_QUIET_S)


async def _taken(testbed: Testbed, database: asyncpg.Connection, services: dict[str, Contestant]) -> _Taken:
    logs = testbed.directory / "kafka" / "logs"
    return _Taken(
        events=await database.fetchval(_EVENTS, topics.EVENTS.name),
        database=await database.fetchval("SELECT pg_database_size(current_database())"),
        topics={
            topic.name: sum(file.stat().st_size for file in (logs / f"{topic.name}-0").glob("*.log"))
            for topic in _TOPICS
        },
        resident={name: process.resident_bytes() for name, process in services.items()},
    )


def _result(before: _Taken, after: _Taken, spent: _Spent, few: int, channels: int) -> Result:
    events = after.events - before.events
    bytes_an_event = (after.topics[topics.EVENTS.name] - before.topics[topics.EVENTS.name]) / events
    return Result(
        "sizing",
        "bytes an event",
        ours=round(bytes_an_event),
        limit=None,
        limit_is="",
        ratio=None,
        details={
            "channels": channels,
            "events a channel": round(events / channels, 1),
            "commands/s of one partition, decided": round(spent.commands / spent.deciding),
            "commands/s of one partition, decided and in all read models": round(spent.commands / spent.projecting),
            "bytes a channel in the database": round((after.database - before.database) / channels),
            "bytes a command in each topic, before compaction": {
                name: round((size - before.topics[name]) / spent.commands) for name, size in after.topics.items()
            },
            f"resident MB with {few:,} channels": {name: round(size / 1e6) for name, size in before.resident.items()},
            "resident KB a channel": {
                name: round((size - before.resident[name]) / channels / 1e3, 2) for name, size in after.resident.items()
            },
            "processor µs a command": {
                name: round(one / spent.commands * 1e6) for name, one in spent.processor.items()
            },
        },
    )

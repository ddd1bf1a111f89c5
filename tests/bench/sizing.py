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
_SERVING = "switchboard_decider_partition_serving{"
_QUIET_S = 2.0


@dataclass
class _Taken:
    """What everything takes at a number of channels, in bytes."""

    events: int
    database: int
    topics: dict[str, int]
    resident: dict[str, int]
    """The decider's after a restart."""
    busy: int
    """The decider's before it."""


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
    services = _Services(testbed)
    with services.running:
        for name in SERVICES:
            services.start(name)
        async with load_driver(testbed.bootstrap_servers, testbed.partitions) as driver:
            await _fill(testbed, driver, database, range(few))
            await services.until_quiet()
            before = await _taken(testbed, database, services)
            spent = await _fill(testbed, driver, database, range(few, many), services.processes)
            await services.until_quiet()
            after = await _taken(testbed, database, services)
    await database.close()
    return [_result(before, after, spent, few, many - few)]


class _Services:
    """One process of each service, with metrics."""

    def __init__(self, testbed: Testbed) -> None:
        self._testbed, self._ports = testbed, {name: free_port() for name in SERVICES}
        self.running = ExitStack()
        self.processes: dict[str, Contestant] = {}

    def start(self, name: str) -> None:
        more = {"SWITCHBOARD_DATABASE_URL": self._testbed.dsn, "SWITCHBOARD_METRICS_PORT": str(self._ports[name])}
        more |= {"SWITCHBOARD_HTTP_PORT": str(free_port())}
        self.processes[name] = self.running.enter_context(self._testbed.service(name, **more))

    async def restart_decider(self) -> None:
        """What it has in memory is then what it restores, and none of what it used meanwhile."""
        self.processes["decider"].stop()
        self.start("decider")
        await self._until("decider", _SERVING, 1.0)

    async def until_quiet(self) -> None:
        """Waits until no service has a lag, and its memory has settled."""
        for name in self.processes:
            await self._until(name, _LAG, 0.0)
        await asyncio.sleep(_QUIET_S)

    async def _until(self, name: str, metric: str, value: float) -> None:
        """Waits until all of a service's values of the metric, and one at least where it is not 0, are this one."""
        for _ in range(600):
            values = await self._values(name, metric)
            if set(values) <= {value} and (values or not value):
                return
            await asyncio.sleep(0.2)
        raise TimeoutError(f"{name}: {metric}")

    async def _values(self, name: str, metric: str) -> list[float]:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self._ports[name]}/metrics") as answer,
        ):
            lines = (await answer.text()).splitlines()
        return [float(line.rpartition(" ")[2]) for line in lines if line.startswith(metric)]


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


async def _taken(testbed: Testbed, database: asyncpg.Connection, services: _Services) -> _Taken:
    logs = testbed.directory / "kafka" / "logs"
    busy = services.processes["decider"].resident_bytes()
    await services.restart_decider()
    resident = {name: process.resident_bytes() for name, process in services.processes.items()}
    return _Taken(
        events=await database.fetchval(_EVENTS, topics.EVENTS.name),
        database=await database.fetchval("SELECT pg_database_size(current_database())"),
        topics={
            topic.name: sum(file.stat().st_size for file in (logs / f"{topic.name}-0").glob("*.log"))
            for topic in _TOPICS
        },
        resident=resident,
        busy=busy,
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
            "resident MB of the decider before its restart": round(after.busy / 1e6),
            "processor µs a command": {
                name: round(one / spent.commands * 1e6) for name, one in spent.processor.items()
            },
        },
    )

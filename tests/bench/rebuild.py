"""`rebuild`: events a second into a new version of the read model, checked and swapped in, beside a bare consumer of
the same events and a bare COPY of the rows that they end in."""

from __future__ import annotations

import gc
import time

import asyncpg

from contracts import topics
from services.infrastructure.config import Settings
from services.infrastructure.postgres import pool_of
from services.projector.models import SETTINGS
from services.projector.swap import rebuild
from services.projector.versions import schema_of
from tests.bench.bare_read_model import Rates, consume, copy, ends_of_events
from tests.bench.event_log import EventLog
from tests.bench.projection import caught_up
from tests.bench.report import Result
from tests.bench.testbed import Testbed

_TABLES = ("channels", "business_systems", "intents")
_CHANGES_A_CHANNEL = 9


async def run(testbed: Testbed) -> list[Result]:
    channels = range(testbed.scaled(20_000))
    events = EventLog(testbed.bootstrap_servers, topics.EVENTS.name, testbed.partitions)
    await events.append(events.registrations(channels))
    for turn in range(_CHANGES_A_CHANNEL):
        await events.append(events.changes(channels, turn))
    ends = await ends_of_events(testbed)
    database = await asyncpg.connect(testbed.dsn)
    more = {"SWITCHBOARD_DATABASE_URL": testbed.dsn}
    with testbed.service("projector", **more):
        await caught_up(testbed, database)
    settings = Settings.from_environment(testbed.environment() | more)
    pool = await pool_of(settings, size=6)
    gc.set_threshold(500_000, 20, 100)  # as `switchboard projections` does; for the bare loops too
    rates = Rates()
    for turn in range(testbed.rounds + 1):
        started = time.perf_counter()
        version = await rebuild(settings, pool, SETTINGS, restart=True)
        ours = time.perf_counter() - started
        count, consumed = await consume(testbed, dict.fromkeys(ends, 0), ends)
        copied = await _copy(database, schema_of("settings", version))
        rates.add(testbed, turn, count / ours, consumed, count / copied)
    await pool.close()
    await database.close()
    measured = "from the call to the end of the swap, the comparison of every row included"
    return [rates.result("rebuild", events=count, measured=measured)]


async def _copy(database: asyncpg.Connection, schema: str) -> float:
    """Seconds for the rows of that version."""
    seconds = 0.0
    for table in (f"{schema}.{name}" for name in _TABLES):
        seconds += await copy(database, table, await database.fetch(f"SELECT * FROM {table}"))  # noqa: S608 -- our names
    return seconds

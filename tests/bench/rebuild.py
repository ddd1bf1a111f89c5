"""`rebuild`: events a second into a new version of the read model, checked and swapped in, beside a bare consumer of
the same events and a bare COPY of the rows that they end in."""

from __future__ import annotations

import gc
import time

import asyncpg

from contracts import topics
from services.infrastructure.postgres import pool_of
from services.infrastructure.settings import Settings
from services.projector.swap import rebuild
from services.projector.versions import schema_of
from tests.bench.bare_limits import consume, copy, ends_of_events
from tests.bench.event_log import EventLog
from tests.bench.projection import caught_up
from tests.bench.report import Result, middle, ratio_of
from tests.bench.surroundings import Surroundings

_TABLES = ("channels", "business_systems", "intents")
_CHANGES_A_CHANNEL = 9


async def run(place: Surroundings) -> list[Result]:
    channels = range(place.scaled(20_000))
    events = EventLog(place.bootstrap_servers, topics.EVENTS.name, place.partitions)
    await events.append(events.registrations(channels))
    for turn in range(_CHANGES_A_CHANNEL):
        await events.append(events.changes(channels, turn))
    ends = await ends_of_events(place)
    database = await asyncpg.connect(place.dsn)
    more = {"SWITCHBOARD_DATABASE_URL": place.dsn}
    with place.service("projector", **more):
        await caught_up(place, database)
    settings = Settings.from_environment(place.environment() | more)
    pool = await pool_of(settings, size=6)
    gc.set_threshold(500_000, 20, 100)  # as `switchboard projections` does; for the bare loops too
    rates: dict[str, list[float]] = {"ours": [], "consume": [], "COPY": []}
    for turn in range(place.rounds + 1):
        began = time.perf_counter()
        version = await rebuild(settings, pool, restart=True)
        ours = time.perf_counter() - began
        count, consumed = await consume(place, dict.fromkeys(ends, 0), ends)
        copied = await _copy(database, schema_of("settings", version))
        if turn:
            for name, rate in (("ours", count / ours), ("consume", consumed), ("COPY", count / copied)):
                rates[name].append(rate)
            place.say(f"turn {turn}: " + ", ".join(f"{name} {found[-1]:,.0f}/s" for name, found in rates.items()))
    await pool.close()
    await database.close()
    slower = min("consume", "COPY", key=lambda name: middle(rates[name]))
    return [
        Result(
            "rebuild",
            "events/s",
            ours=middle(rates["ours"]),
            limit=middle(rates[slower]),
            limit_is=f"bare {slower}, the slower of consume (the same events) and COPY (the same rows)",
            ratio=ratio_of(rates["ours"], rates[slower]),
            details={
                "events": count,
                "bare consume": middle(rates["consume"]),
                "bare COPY": middle(rates["COPY"]),
                "measured": "from the call to the end of the swap, the check of every row included",
            },
        )
    ]


async def _copy(database: asyncpg.Connection, schema: str) -> float:
    """Seconds for the rows of that version."""
    seconds = 0.0
    for table in (f"{schema}.{name}" for name in _TABLES):
        seconds += await copy(database, table, await database.fetch(f"SELECT * FROM {table}"))  # noqa: S608 -- our names
    return seconds

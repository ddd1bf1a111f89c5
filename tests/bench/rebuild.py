"""`rebuild`: events a second into a new version of the read model, checked and swapped in, beside a bare consumer of
the same events and a bare COPY of the rows that they end in."""

from __future__ import annotations

import time

import asyncpg

from services.infrastructure.postgres import pool_of
from services.infrastructure.settings import Settings
from services.projector.swap import rebuild
from services.projector.versions import schema_of
from tests.bench.bare_limits import consume, copy, ends_of_events
from tests.bench.lanes import OURS
from tests.bench.projection import caught_up
from tests.bench.report import Result, middle, ratio_of
from tests.bench.surroundings import Surroundings
from tests.bench.traffic import changes, registrations, track

_TABLES = ("channels", "business_systems", "intents")
_CHANGES_A_CHANNEL = 4


async def run(place: Surroundings) -> list[Result]:
    channels = range(place.scaled(10_000))
    with place.service("decider"):
        async with track(place.bootstrap_servers, place.partitions) as running:
            await running.race(OURS, registrations(channels))
            for turn in range(_CHANGES_A_CHANNEL):
                await running.race(OURS, changes(channels, turn))
    ends = await ends_of_events(place)
    database = await asyncpg.connect(place.dsn)
    more = {"SWITCHBOARD_DATABASE_URL": place.dsn}
    with place.service("projector", **more):
        await caught_up(database, sum(ends.values()))
    settings = Settings.from_environment(place.environment() | more)
    pool = await pool_of(settings, size=6)
    rates: dict[str, list[float]] = {"ours": [], "consume": [], "COPY": []}
    for turn in range(place.rounds + 1):
        began = time.perf_counter()
        version = await rebuild(settings, pool, restart=True)
        ours = time.perf_counter() - began
        values, consumed = await consume(place, dict.fromkeys(ends, 0), ends)
        copied = await _copy(database, schema_of("settings", version))
        if turn:
            for name, rate in (("ours", len(values) / ours), ("consume", consumed), ("COPY", len(values) / copied)):
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
                "events": len(values),
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

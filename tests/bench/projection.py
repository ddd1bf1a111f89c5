"""`projection`: events a second onto all read models, as `switchboard run projector` keeps them, beside a bare consumer
of the same events and a bare COPY of the same rows."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import asyncpg

from contracts import topics
from projections import catalogue, history, settings
from tests.bench.bare_limits import Ends, consume, copy, ends_of_events
from tests.bench.lanes import OURS
from tests.bench.report import Result, middle, ratio_of
from tests.bench.surroundings import Surroundings
from tests.bench.traffic import changes, registrations, track

READ_MODELS = (settings.NAME, history.NAME, catalogue.NAME)
_STANDS = """
    SELECT coalesce(sum(next_offset), 0)::bigint FROM switchboard.checkpoints
    WHERE consumer = ANY($1::text[]) AND topic = $2
"""
_ENTRIES = """
    SELECT e.* FROM history.entries e
    JOIN unnest($1::integer[], $2::bigint[]) AS begin (partition, at) USING (partition)
    WHERE topic = 'events' AND log_offset >= at
"""
# What such a turn writes: each event is an entry, and changes one channel and one of its resources.
_ROWS = {
    "history.entries": _ENTRIES,
    "history.resources": f"SELECT r.* FROM history.resources r JOIN ({_ENTRIES}) e USING (channel, resource)",  # noqa: S608
    "settings_v1.channels": f"SELECT c.* FROM settings_v1.channels c JOIN ({_ENTRIES}) e USING (channel)",  # noqa: S608
}


async def run(place: Surroundings) -> list[Result]:
    channels = range(place.scaled(20_000))
    database = await asyncpg.connect(place.dsn)
    rates: dict[str, list[float]] = {"ours": [], "consume": [], "COPY": []}
    # Registering and opening go before what is measured: the projector then has rows to change.
    with place.service("decider"):
        async with track(place.bootstrap_servers, place.partitions) as running:
            await running.race(OURS, registrations(channels))
    for turn in range(4):
        before = await ends_of_events(place)
        with place.service("decider"):
            async with track(place.bootstrap_servers, place.partitions) as running:
                await running.race(OURS, changes(channels, turn))
        ends = await ends_of_events(place)
        with place.service("projector", SWITCHBOARD_DATABASE_URL=place.dsn):
            seconds = await caught_up(database, sum(ends.values()))
        values, consumed = await consume(place, before, ends)
        copied = await _copy(database, before)
        if turn:
            for name, rate in (("ours", len(values) / seconds), ("consume", consumed), ("COPY", len(values) / copied)):
                rates[name].append(rate)
            place.say(f"turn {turn}: " + ", ".join(f"{name} {found[-1]:,.0f}/s" for name, found in rates.items()))
    await database.close()
    slower = min("consume", "COPY", key=lambda name: middle(rates[name]))
    return [
        Result(
            "projection",
            "events/s",
            ours=middle(rates["ours"]),
            limit=middle(rates[slower]),
            limit_is=f"bare {slower}, the slower of consume (the same events) and COPY (the same rows)",
            ratio=ratio_of(rates["ours"], rates[slower]),
            details={
                "events a turn": len(channels),
                "bare consume": middle(rates["consume"]),
                "bare COPY": middle(rates["COPY"]),
                "measured": "settings, history and catalogue, catching up, from the first batch applied to the last",
            },
        )
    ]


async def caught_up(database: Any, end: int) -> float:
    """Waits until all read models stand at the end; seconds from when one of them first moved, as if for all of it.

    The last record of each partition is a transaction's marker, which no consumer is handed.
    """
    begin = stands = await database.fetchval(_STANDS, READ_MODELS, topics.EVENTS.name)
    first, seen, moved = None, stands, time.perf_counter()
    while time.perf_counter() - moved < 1.0 or first is None or stands < 0.99 * end * len(READ_MODELS):
        await asyncio.sleep(0.005)
        stands = await database.fetchval(_STANDS, READ_MODELS, topics.EVENTS.name)
        if stands != seen:
            moved, seen = time.perf_counter(), stands
            first = (moved, stands) if first is None else first
        elif time.perf_counter() - moved > 60:
            raise TimeoutError(f"the projector stands still at {stands}, of {end * len(READ_MODELS)}")
    return float((moved - first[0]) * (seen - begin) / max(seen - first[1], 1))


async def _copy(database: Any, before: Ends) -> float:
    begin = sorted((home.partition, at) for home, at in before.items())
    where = [[partition for partition, _ in begin], [at for _, at in begin]]
    return sum([await copy(database, table, await database.fetch(query, *where)) for table, query in _ROWS.items()])

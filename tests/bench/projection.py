"""`projection`: events a second onto all read models, as `switchboard run projector` keeps them, beside a bare consumer
of the same events and a bare COPY of the same rows."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import ExitStack
from typing import Any

import asyncpg

from contracts import topics
from projections import catalogue, history, settings
from tests.bench.bare_limits import Ends, consume, copy, ends_of_events
from tests.bench.event_log import EventLog
from tests.bench.report import Result, middle, ratio_of
from tests.bench.surroundings import Surroundings

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
    events = EventLog(place.bootstrap_servers, topics.EVENTS.name, place.partitions)
    database = await asyncpg.connect(place.dsn)
    rates: dict[str, list[float]] = {"ours": [], "consume": [], "COPY": []}
    copies = os.cpu_count() or 1
    with ExitStack() as projectors:
        for _ in range(copies):
            projectors.enter_context(place.service("projector", SWITCHBOARD_DATABASE_URL=place.dsn))
        # Registering and opening go before what is measured: the projectors then have rows to change.
        await events.append(events.registrations(channels))
        await caught_up(place, database)
        for turn in range(place.rounds + 1):
            before = await ends_of_events(place)
            begun = await events.append(list(events.changes(channels, turn)))
            ours = len(channels) / (await caught_up(place, database) - begun)
            count, consumed = await consume(place, before, await ends_of_events(place))
            copied = await _copy(database, before)
            if turn:
                for name, rate in (("ours", ours), ("consume", consumed), ("COPY", count / copied)):
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
                "projectors": copies,
                "bare consume": middle(rates["consume"]),
                "bare COPY": middle(rates["COPY"]),
                "measured": "from when the events became visible until settings, history and catalogue all had them",
            },
        )
    ]


async def caught_up(place: Surroundings, database: Any) -> float:
    """Waits until all read models stand at the end, and says when that was.

    The last record of each partition is a transaction's marker, which no consumer is handed.
    """
    ends = await ends_of_events(place)
    enough = sum(max(0, end - 1) for end in ends.values()) * len(READ_MODELS)
    seen, moved = -1, time.perf_counter()
    while (stands := await database.fetchval(_STANDS, READ_MODELS, topics.EVENTS.name)) < enough:
        if stands != seen:
            seen, moved = stands, time.perf_counter()
        elif time.perf_counter() - moved > 60:
            raise TimeoutError(f"the projectors stand still at {stands}, of {enough}")
        await asyncio.sleep(0.02)
    return time.perf_counter()


async def _copy(database: Any, before: Ends) -> float:
    begin = sorted((home.partition, at) for home, at in before.items())
    where = [[partition for partition, _ in begin], [at for _, at in begin]]
    return sum([await copy(database, table, await database.fetch(query, *where)) for table, query in _ROWS.items()])

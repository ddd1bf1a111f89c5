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
from tests.bench.bare_read_model import Ends, Rates, consume, copy, ends_of_events
from tests.bench.event_log import EventLog
from tests.bench.report import Result
from tests.bench.testbed import Testbed

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
    "history_v1.entries": _ENTRIES,
    "history_v1.resources": f"SELECT r.* FROM history.resources r JOIN ({_ENTRIES}) e USING (channel, resource)",  # noqa: S608
    "settings_v1.channels": f"SELECT c.* FROM settings_v1.channels c JOIN ({_ENTRIES}) e USING (channel)",  # noqa: S608
}


async def run(testbed: Testbed) -> list[Result]:
    channels = range(testbed.scaled(20_000))
    events = EventLog(testbed.bootstrap_servers, topics.EVENTS.name, testbed.partitions)
    database = await asyncpg.connect(testbed.dsn)
    rates = Rates()
    copies = os.cpu_count() or 1
    with ExitStack() as projectors:
        for _ in range(copies):
            projectors.enter_context(testbed.service("projector", SWITCHBOARD_DATABASE_URL=testbed.dsn))
        # Registering and opening go before what is measured: the projectors then have rows to change.
        await events.append(events.registrations(channels))
        await caught_up(testbed, database)
        for turn in range(testbed.rounds + 1):
            before = await ends_of_events(testbed)
            started = await events.append(list(events.changes(channels, turn)))
            ours = len(channels) / (await caught_up(testbed, database) - started)
            count, consumed = await consume(testbed, before, await ends_of_events(testbed))
            copied = await _copy(database, before)
            rates.add(testbed, turn, ours, consumed, count / copied)
    await database.close()
    measured = "from when the events became visible until settings, history and catalogue all had them"
    return [rates.result("projection", **{"events a turn": len(channels)}, projectors=copies, measured=measured)]


async def caught_up(testbed: Testbed, database: Any) -> float:
    """Waits until all read models stand at the end, and says when that was.

    The last record of each partition is a transaction's marker, which no consumer is handed.
    """
    ends = await ends_of_events(testbed)
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

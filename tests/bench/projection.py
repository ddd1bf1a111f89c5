"""`projection`: events a second onto the read model, beside a bare consumer and a bare COPY of one row an event."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition

from contracts import topics
from projections.settings import NAME
from tests.bench.lanes import OURS
from tests.bench.report import Result, middle, ratio_of
from tests.bench.surroundings import Surroundings
from tests.bench.traffic import changes, registrations, track

_STANDS = "SELECT coalesce(sum(next_offset), 0)::bigint FROM switchboard.checkpoints WHERE consumer = $1"
_TABLE = """
    CREATE UNLOGGED TABLE bench_rows (
        id text, channel text, account text, type text, version int, sequence int, time text, resource text, data jsonb)
"""


async def run(place: Surroundings) -> list[Result]:
    channels = range(place.scaled(10_000))
    database = await asyncpg.connect(place.dsn)
    await database.execute(_TABLE)
    rates: dict[str, list[float]] = {"ours": [], "consume": [], "copy": []}
    # Registering and opening go before what is measured: the projector then has rows to change.
    with place.service("decider"):
        async with track(place.bootstrap_servers, place.partitions) as running:
            await running.race(OURS, registrations(channels))
    for turn in range(4):
        before = await _ends(place)
        with place.service("decider"):
            async with track(place.bootstrap_servers, place.partitions) as running:
                await running.race(OURS, changes(channels, turn))
        ends = await _ends(place)
        with place.service("projector", SWITCHBOARD_DATABASE_URL=place.dsn):
            ours = await _caught_up(database, sum(ends.values()))
        began = time.perf_counter()
        values = await _consume(place, before, ends)
        consumed = len(values) / (time.perf_counter() - began)
        copied = await _copy(database, values)
        if turn:
            for name, rate in (("ours", ours), ("consume", consumed), ("copy", copied)):
                rates[name].append(rate)
            place.say(f"turn {turn}: ours {ours:,.0f}/s, consume {consumed:,.0f}/s, copy {copied:,.0f}/s")
    await database.close()
    slower = min("consume", "copy", key=lambda name: middle(rates[name]))
    return [
        Result(
            "projection",
            "events/s",
            ours=middle(rates["ours"]),
            limit=middle(rates[slower]),
            limit_is=f"bare {slower} of the same events, the slower of consume and copy",
            ratio=ratio_of(rates["ours"], rates[slower]),
            details={
                "events a turn": len(channels),
                "bare consume": middle(rates["consume"]),
                "bare COPY": middle(rates["copy"]),
                "measured": "from the first batch applied to the last, catching up",
            },
        )
    ]


async def _reader(place: Surroundings) -> tuple[Any, list[TopicPartition]]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=place.bootstrap_servers,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=4 * 1024 * 1024,
    )
    await consumer.start()
    partitions = [TopicPartition(topics.EVENTS.name, partition) for partition in range(place.partitions)]
    consumer.assign(partitions)
    return consumer, partitions


async def _ends(place: Surroundings) -> dict[TopicPartition, int]:
    consumer, partitions = await _reader(place)
    try:
        ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
        return ends
    finally:
        await consumer.stop()


async def _caught_up(database: Any, end: int) -> float:
    """Events a second from when the projector first moved until it stood at the end.

    The last record of each partition is a transaction's marker, which no consumer is handed.
    """
    begin = stands = await database.fetchval(_STANDS, NAME)
    first, seen, moved = None, stands, time.perf_counter()
    while time.perf_counter() - moved < 1.0 or first is None or stands < 0.99 * end:
        await asyncio.sleep(0.005)
        stands = await database.fetchval(_STANDS, NAME)
        if stands != seen:
            moved, seen = time.perf_counter(), stands
            if first is None:
                first, begin = moved, stands
        elif time.perf_counter() - moved > 60:
            raise TimeoutError(f"the projector stands still at {stands}, of {end}")
    return float((seen - begin) / (moved - first)) if moved > first else float(seen)


async def _consume(
    place: Surroundings, before: dict[TopicPartition, int], ends: dict[TopicPartition, int]
) -> list[bytes]:
    consumer, partitions = await _reader(place)
    values: list[bytes] = []
    try:
        for partition in partitions:
            consumer.seek(partition, before[partition])
        for partition in partitions:
            while await consumer.position(partition) < ends[partition]:
                for records in (await consumer.getmany(timeout_ms=200, max_records=2_000)).values():
                    values += [record.value for record in records]
    finally:
        await consumer.stop()
    return values


async def _copy(database: Any, values: list[bytes]) -> float:
    names = ("id", "subject", "accountid", "type", "sequence", "partitionsequence", "time", "resource")
    events = [json.loads(value) for value in values]
    rows = [(*(event[name] for name in names), json.dumps(event["data"])) for event in events]
    began = time.perf_counter()
    await database.copy_records_to_table("bench_rows", records=rows)
    return len(rows) / (time.perf_counter() - began)

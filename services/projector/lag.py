"""How far the read models are behind the log, per partition, in events and in seconds."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from pydantic_core import from_json

from contracts import topics
from projections import catalogue, history
from projections import settings as settings_projection
from services.infrastructure.kafka import security_options
from services.infrastructure.postgres import Pool
from services.infrastructure.settings import Settings
from services.projector.rebuild import MODEL, building_name, checkpoints
from services.projector.versions import versions_of

_LOOK_BACK = 64


@dataclass(frozen=True, slots=True)
class Lag:
    """``seconds``: for how long the oldest event that is not applied has been there. ``state`` as the versions are."""

    model: str
    state: str
    partition: int
    next_offset: int
    end: int
    events: int
    seconds: float


async def lags(settings: Settings, pool: Pool) -> list[Lag]:
    """Of every read model and every version of it that is there."""
    async with pool.acquire() as connection:
        versions = await versions_of(connection, MODEL)
        consumers = {
            settings_projection.NAME: (f"{MODEL} v{versions.live}", "live"),
            history.NAME: ("history", "live"),
            catalogue.NAME: ("catalogue", "live"),
        }
        for version, state in ((versions.building, "building"), (versions.kept, "kept")):
            if version is not None:
                consumers[building_name(version)] = (f"{MODEL} v{version}", state)
        stands = {name: await checkpoints(connection, name) for name in consumers}
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="none",
        **security_options(),
    )
    try:
        await consumer.start()
        found = []
        for number in range(await _partitions(settings)):
            home = TopicPartition(topics.EVENTS.name, number)
            end = (await consumer.end_offsets([home]))[home]
            last = await _last_sequence(consumer, home, end)
            for name, (model, state) in consumers.items():
                at = stands[name].get(number, 0)
                events, seconds = await _behind(consumer, home, at, end, last)
                found.append(Lag(model, state, number, at, end, events, seconds))
        return sorted(found, key=lambda one: (one.model, one.state, one.partition))
    finally:
        await asyncio.sleep(0)  # aiokafka cannot stop a consumer whose tasks never ran
        await consumer.stop()


async def _partitions(settings: Settings) -> int:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers, **security_options())
    await admin.start()
    try:
        return len((await admin.describe_topics([topics.EVENTS.name]))[0]["partitions"])
    finally:
        await admin.close()


async def _first_from(consumer: Any, home: TopicPartition, at: int, end: int) -> list[Any]:
    """The first records at or behind an offset; none where only markers follow."""
    consumer.assign([home])
    consumer.seek(home, at)
    while await consumer.position(home) < end:
        if records := (await consumer.getmany(home, timeout_ms=200)).get(home):
            return list(records)
    return []


async def _last_sequence(consumer: Any, home: TopicPartition, end: int) -> int:
    """The partitionsequence of the last event; 0 where there is none."""
    back = _LOOK_BACK
    while end:
        last = 0
        at = max(0, end - back)
        while at < end:
            records = await _first_from(consumer, home, at, end)
            if not records:
                break
            last, at = _sequence(records[-1]), records[-1].offset + 1
        if last or back >= end:
            return last
        back *= 8
    return 0


async def _behind(consumer: Any, home: TopicPartition, at: int, end: int, last: int) -> tuple[int, float]:
    records = await _first_from(consumer, home, at, end) if at < end else []
    if not records:
        return 0, 0.0
    return max(0, last - _sequence(records[0]) + 1), max(0.0, time.time() - records[0].timestamp / 1000)


def _sequence(record: Any) -> int:
    return int(from_json(record.value)["partitionsequence"])

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
from services.infrastructure.checkpoints import next_offsets
from services.infrastructure.config import Settings
from services.infrastructure.kafka import security_options
from services.infrastructure.log_end import last_record
from services.infrastructure.postgres import Pool
from services.projector.models import READ_MODELS
from services.projector.rebuild import building_name
from services.projector.versions import versions_of


@dataclass(frozen=True, slots=True)
class Lag:
    """``seconds``: the age of the oldest event that is not applied. ``state``: live, building or kept."""

    model: str
    state: str
    partition: int
    next_offset: int
    end: int
    events: int
    seconds: float


async def lags(settings: Settings, pool: Pool) -> list[Lag]:
    """The lag of every read model, and of each of its versions."""
    async with pool.acquire() as connection:
        consumers = {}
        for model in READ_MODELS.values():
            versions = await versions_of(connection, model.name)
            consumers[model.consumer] = (f"{model.name} v{versions.live}", "live")
            for version, state in ((versions.building, "building"), (versions.kept, "kept")):
                if version is not None:
                    consumers[building_name(model, version)] = (f"{model.name} v{version}", state)
        checkpoints = {name: await next_offsets(connection, name) for name in consumers}
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        isolation_level="read_committed",
        enable_auto_commit=False,
        fetch_max_wait_ms=100,  # before each partition is read, the wait for more of the one before must end
        auto_offset_reset="none",
        **security_options(),
    )
    try:
        await consumer.start()
        found = []
        for number in range(await _partitions(settings)):
            tp = TopicPartition(topics.EVENTS.name, number)
            end = (await consumer.end_offsets([tp]))[tp]
            record = await last_record(consumer, tp, 0, end)
            for name, (version_name, state) in consumers.items():
                at = checkpoints[name].get(number, 0)
                behind = is_behind(at, record)
                events, seconds = await _behind(consumer, tp, at, end, _sequence(record)) if behind else (0, 0.0)
                found.append(Lag(version_name, state, number, at, end, events, seconds))
        return sorted(found, key=lambda one: (one.model, one.state, one.partition))
    finally:
        await asyncio.sleep(0)  # aiokafka cannot stop a consumer whose tasks never ran
        await consumer.stop()


def is_behind(next_offset: int, last: Any) -> bool:
    """Whether the last event, if there is one, is yet to be applied. It may be at the very next offset."""
    return last is not None and next_offset <= last.offset


async def _partitions(settings: Settings) -> int:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers, **security_options())
    await admin.start()
    try:
        return len((await admin.describe_topics([topics.EVENTS.name]))[0]["partitions"])
    finally:
        await admin.close()


async def _first_from(consumer: Any, tp: TopicPartition, at: int, end: int) -> list[Any]:
    """The first records from the offset on; empty where only transaction markers follow."""
    consumer.assign([tp])
    consumer.seek(tp, at)
    while await consumer.position(tp) < end:
        if records := (await consumer.getmany(tp, timeout_ms=200)).get(tp):
            return list(records)
    return []


async def _behind(consumer: Any, tp: TopicPartition, at: int, end: int, last: int) -> tuple[int, float]:
    records = await _first_from(consumer, tp, at, end)
    if not records:
        return 0, 0.0
    return max(0, last - _sequence(records[0]) + 1), max(0.0, time.time() - records[0].timestamp / 1000)


def _sequence(record: Any) -> int:
    return int(from_json(record.value)["partitionsequence"])

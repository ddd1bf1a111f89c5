"""Building a read model anew beside the live one: the next version, partition by partition, never ahead of the live.

What is built has checkpoints of its own, moved in the transaction of what they stand for. So a rebuild that was killed
goes on where it was; and since nobody but a rebuild writes there, rows of channels that begin in what is read are
copied, and only the others looked up and put in their place.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition
from pydantic import ValidationError

from contracts import topics
from contracts.envelope import problem_of
from projections import settings as settings_projection
from projections.events import NotAnEvent, read_event
from services.infrastructure.consuming import move_checkpoint
from services.infrastructure.kafka import security_options
from services.infrastructure.postgres import Connection, Pool
from services.infrastructure.settings import Settings
from services.projector import comparing
from services.projector.versions import lock_of, schema_of, versions_of

log = logging.getLogger(__name__)

MODEL = settings_projection.MODEL
_PATIENCE_S = 2
_ROWS_A_WRITE = 40_000
_RECORDS_A_POLL = 5_000
_POLL_MS = 20
_ALONE = 0x5B0A_2D02
"""The advisory lock that one rebuild or rollback holds at a time."""

BUILDING = 0x5B0A_2D03
"""The advisory lock that its processes share: whoever comes after it waits until the last of them has ended."""

Progress = Callable[[int], None]
"""Told by how many offsets the building moved on."""


class RebuildRefused(Exception):
    """It cannot be done, or not now; the sentence says why."""


class ModelsDiffer(RebuildRefused):
    """What was built is not what is live. ``differences`` name rows, at most a few of each table."""

    def __init__(self, differences: list[str]) -> None:
        super().__init__(
            "What was built from the log differs from the live read model at the same cut: " + "; ".join(differences)
        )
        self.differences = differences


def building_name(version: int) -> str:
    """The checkpoints of a version that is not live."""
    return f"{settings_projection.NAME}/{schema_of(MODEL, version)}"


@asynccontextmanager
async def alone(pool: Pool) -> AsyncIterator[None]:
    """Raises `RebuildRefused` where another rebuild or rollback goes on; one that was just killed ends in a moment."""
    async with pool.acquire() as connection:
        try:
            await connection.execute(f"SET lock_timeout = '{_PATIENCE_S}s'")
            await connection.execute("SELECT pg_advisory_lock($1)", _ALONE)
            await connection.execute("SELECT pg_advisory_lock($1), pg_advisory_unlock($1)", BUILDING)
        except asyncpg.LockNotAvailableError:
            raise RebuildRefused("Another rebuild or rollback goes on; wait for it, or end it.") from None
        try:
            yield
        finally:
            await asyncio.shield(connection.execute("SELECT pg_advisory_unlock($1)", _ALONE))


async def begin(pool: Pool, *, restart: bool) -> int:
    """The version to build: the one that was begun, or a fresh one; always a fresh one with ``restart``."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", lock_of(MODEL))
        versions = await versions_of(connection, MODEL)
        if versions.building is not None and not restart:
            return versions.building
        if versions.building is not None:
            await drop(connection, versions.building)
        version = max(versions.live, versions.kept or 0) + 1
        await drop(connection, version)
        schema = schema_of(MODEL, version)
        await connection.execute(f"CREATE SCHEMA {schema}; SET LOCAL search_path = {schema}")
        await connection.execute(settings_projection.TABLES.read_text())
        await connection.execute("UPDATE switchboard.read_models SET building = $2 WHERE model = $1", MODEL, version)
        return version


async def drop(connection: Connection, version: int) -> None:
    await connection.execute(f"DROP SCHEMA IF EXISTS {schema_of(MODEL, version)} CASCADE")
    await connection.execute("DELETE FROM switchboard.checkpoints WHERE consumer = $1", building_name(version))


async def checkpoints(connection: Connection, consumer: str) -> dict[int, int]:
    """Partition of the events -> the offset that the consumer applies next."""
    rows = await connection.fetch(
        "SELECT partition, next_offset FROM switchboard.checkpoints WHERE consumer = $1 AND topic = $2",
        consumer,
        topics.EVENTS.name,
    )
    return {row["partition"]: row["next_offset"] for row in rows}


@dataclass(slots=True)
class _Span:
    """Offsets of a partition that are to be applied."""

    at: int
    end: int


@dataclass(slots=True)
class Builder:
    """Brings a version that is not live to wherever it is to be. Made by `builder`."""

    pool: Pool
    consumer: Any
    version: int
    progress: Progress

    async def catch_up(self, to: Mapping[int, int]) -> None:
        """Applies every event below these offsets, and none beyond."""
        async with self.pool.acquire() as connection:
            stands = await checkpoints(connection, building_name(self.version))
            behind = {
                TopicPartition(topics.EVENTS.name, partition): _Span(stands.get(partition, 0), end)
                for partition, end in to.items()
                if stands.get(partition, 0) < end
            }
            self.consumer.assign(list(behind))
            for home, span in behind.items():
                self.consumer.seek(home, span.at)
            while behind:
                await self._window(connection, behind)
                done = [home for home, span in behind.items() if span.at >= span.end]
                self.consumer.pause(*done)
                for home in done:
                    del behind[home]

    async def _window(self, connection: Connection, behind: Mapping[TopicPartition, _Span]) -> None:
        """As many events as make so many rows, in one transaction; moves the spans on."""
        folds = {home: settings_projection.Fold(home.partition) for home in behind}
        reached = {home: span.at for home, span in behind.items()}
        async with connection.transaction():
            await connection.execute(f"SET LOCAL search_path = {schema_of(MODEL, self.version)}")
            while sum(map(len, folds.values())) < _ROWS_A_WRITE and any(
                reached[home] < span.end for home, span in behind.items()
            ):
                fetched = await self.consumer.getmany(timeout_ms=_POLL_MS, max_records=_RECORDS_A_POLL)
                for home, records in fetched.items():
                    if home in behind:
                        await self._add(folds[home], connection, records, behind[home].end)
                # Behind the last event there may be markers of transactions, which have offsets too.
                for home, span in behind.items():
                    moved = min(await self.consumer.position(home), span.end)
                    self.progress(moved - reached[home])
                    reached[home] = moved
            for home, fold in folds.items():
                await fold.copy_new(connection)
                await fold.write(connection)
                name = building_name(self.version)
                if not await move_checkpoint(connection, name, home, behind[home].at, reached[home]):
                    raise RebuildRefused("Another process built the same version meanwhile.")
        for home, at in reached.items():
            behind[home].at = at

    async def _add(
        self, fold: settings_projection.Fold, connection: Connection, records: Sequence[Any], end: int
    ) -> None:
        try:
            await fold.add(connection, [read_event(one.value) for one in records if one.offset < end])
        except (settings_projection.Gap, NotAnEvent, ValidationError) as error:
            why = problem_of(error) if isinstance(error, ValidationError) else f"{error}."
            raise RebuildRefused(f"The log has a fault in partition {fold.partition}: {why}") from None


@asynccontextmanager
async def builder(settings: Settings, pool: Pool, version: int, progress: Progress) -> AsyncIterator[Builder]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="none",
        max_partition_fetch_bytes=4 * 1024 * 1024,
        **security_options(),
    )
    try:
        await consumer.start()
        yield Builder(pool, consumer, version, progress)
    finally:
        await asyncio.sleep(0)  # aiokafka cannot stop a consumer whose tasks never ran
        await consumer.stop()


async def distance(pool: Pool, version: int) -> int:
    """How many offsets the version is behind the live one."""
    async with pool.acquire() as connection:
        live = await checkpoints(connection, settings_projection.NAME)
        built = await checkpoints(connection, building_name(version))
    return sum(max(0, end - built.get(partition, 0)) for partition, end in live.items())


async def check(pool: Pool, building: Builder) -> int:
    """Holds what was built against the live one at equal checkpoints, and returns how many rows were compared.

    The live one is looked at in a snapshot, and goes on meanwhile; what is built is brought exactly to that cut. Raises
    `ModelsDiffer`.
    """
    async with pool.acquire() as live, live.transaction(isolation="repeatable_read", readonly=True):
        versions = await versions_of(live, MODEL)
        cut = await checkpoints(live, settings_projection.NAME)
        await building.catch_up(cut)
        async with pool.acquire() as built, built.transaction(isolation="repeatable_read", readonly=True):
            rows, differences = await comparing.compare(
                live, schema_of(MODEL, versions.live), built, schema_of(MODEL, building.version)
            )
    if differences:
        raise ModelsDiffer(differences)
    return rows

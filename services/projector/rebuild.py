"""Building the next version of a read model beside the live one, never ahead of it.

The new version has its own checkpoints, which move in the transaction of their batch, so a killed rebuild resumes where
it was. It is never beyond the log's end. What the log no longer has of a topic whose records expire is taken from the
live version.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition
from pydantic import ValidationError

from contracts import cursor, topics
from contracts.cursor import Position
from contracts.envelope import validation_message
from contracts.partition_growth import Partitions
from projections.events import NotAnEvent
from projections.settings.fold import SequenceGap
from services.infrastructure.checkpoints import delete_checkpoints, move_checkpoint, next_offsets, next_positions
from services.infrastructure.config import Settings
from services.infrastructure.database_rights import apply_rights
from services.infrastructure.event_sequence import take_until_gap
from services.infrastructure.kafka import security_options
from services.infrastructure.parent_partitions import read_growth
from services.infrastructure.postgres import Connection, Pool
from services.projector import table_diff
from services.projector.models import ReadModel, Window
from services.projector.versions import lock_of, schema_of, versions_of

log = logging.getLogger(__name__)

_PATIENCE_S = 2
_ROWS_A_WRITE = 40_000
_RECORDS_A_POLL = 5_000
_POLL_MS = 20
_ALONE = 0x5B0A_2D02
"""The advisory lock that one rebuild or rollback holds at a time."""

BUILDING = 0x5B0A_2D03
"""The advisory lock that its processes share: the next rebuild waits until the last of them has ended."""

Progress = Callable[[int], None]
"""Called with the number of offsets that were applied."""


class RebuildRefused(Exception):
    """The rebuild or rollback is not possible, or not now. The message says why."""


class ModelsDiffer(RebuildRefused):
    """The new version differs from the live one. ``differences`` name the first rows of each table."""

    def __init__(self, differences: list[str]) -> None:
        super().__init__(
            "What was built from the log differs from the live read model at the same cut: " + "; ".join(differences)
        )
        self.differences = differences


def building_name(model: ReadModel, version: int) -> str:
    """The consumer name of the checkpoints of a version that is not live."""
    return f"{model.consumer}/{schema_of(model.name, version)}"


Offsets = dict[TopicPartition, int]
"""Partition -> the offset to read next."""


async def offsets_of(connection: Connection | Pool, model: ReadModel, consumer: str) -> Offsets:
    """The checkpoints of the live version, or of the one that `building_name` names, in the connection's snapshot."""
    return {
        TopicPartition(topic, partition): offset
        for topic in model.topics
        for partition, offset in (await next_offsets(connection, consumer, topic)).items()
    }


@asynccontextmanager
async def alone(pool: Pool) -> AsyncIterator[None]:
    """Holds the lock of rebuilds. Raises `RebuildRefused` while another one runs, except one that was just killed."""
    async with pool.acquire() as connection:
        try:
            await connection.execute(f"SET lock_timeout = '{_PATIENCE_S}s'")
            await connection.execute("SELECT pg_advisory_lock($1)", _ALONE)
            await connection.execute("SELECT pg_advisory_lock($1), pg_advisory_unlock($1)", BUILDING)
        except asyncpg.LockNotAvailableError:
            raise RebuildRefused("Another rebuild or rollback is running; wait for it, or end it.") from None
        try:
            yield
        finally:
            await asyncio.shield(connection.execute("SELECT pg_advisory_unlock($1)", _ALONE))


async def begin(pool: Pool, model: ReadModel, *, restart: bool) -> int:
    """The version to build: the unfinished one, or a new one; always a new one with ``restart``."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", lock_of(model.name))
        versions = await versions_of(connection, model.name)
        if versions.building is not None and not restart:
            return versions.building
        if versions.building is not None:
            await drop(connection, model, versions.building)
        version = max(versions.live, versions.kept or 0) + 1
        await drop(connection, model, version)
        schema = schema_of(model.name, version)
        await connection.execute(f"CREATE SCHEMA {schema}; SET LOCAL search_path = {schema}")
        await connection.execute(model.tables.read_text("utf-8"))
        await apply_rights(connection)
        await connection.execute(
            "UPDATE switchboard.read_models SET building = $2 WHERE model = $1", model.name, version
        )
        return version


async def drop(connection: Connection, model: ReadModel, version: int) -> None:
    await connection.execute(f"DROP SCHEMA IF EXISTS {schema_of(model.name, version)} CASCADE")
    await delete_checkpoints(connection, building_name(model, version))


@dataclass(slots=True)
class _Span:
    """The offsets of a partition to apply, and the ``partitionsequence`` before them."""

    at: int
    sequence: int | None
    end: int


@dataclass(slots=True)
class Builder:
    """Applies records to a version that is not live. Made by `builder`."""

    pool: Pool
    consumer: Any
    model: ReadModel
    version: int
    progress: Progress
    new_window: Callable[[], Window]
    growth: Partitions

    @property
    def name(self) -> str:
        return building_name(self.model, self.version)

    async def live_offsets(self, connection: Connection | Pool) -> Offsets:
        """How far the live version has read, in the connection's snapshot; at most the log's ends.

        A checkpoint beyond the end of the log is a damage that a rebuild repairs.
        """
        offsets = await offsets_of(connection, self.model, self.model.consumer)
        ends = await self.consumer.end_offsets(list(offsets))
        return {tp: min(offset, ends[tp]) for tp, offset in offsets.items()}

    async def catch_up(self, to: Mapping[TopicPartition, int]) -> None:
        """Applies every record below these offsets, and no other. Raises `RebuildRefused`."""
        async with self.pool.acquire() as connection:
            behind = await self._behind(connection, to)
            await self._skip_expired(connection, behind)
            # Channels have come from partitions with fewer ancestors, which are therefore read first.
            older = defaultdict[int, dict[TopicPartition, _Span]](dict)
            for tp, span in behind.items():
                older[len(self.growth.ancestors(tp.topic, tp.partition))][tp] = span
            for _, spans in sorted(older.items()):
                await self._catch_up(connection, spans)

    async def _catch_up(self, connection: Connection, behind: dict[TopicPartition, _Span]) -> None:
        self.consumer.assign(list(behind))
        for tp, span in behind.items():
            self.consumer.seek(tp, span.at)
        while behind:
            await self._window(connection, behind)
            done = [tp for tp, span in behind.items() if span.at >= span.end]
            self.consumer.pause(*done)
            for tp in done:
                del behind[tp]

    async def _behind(self, connection: Connection, to: Mapping[TopicPartition, int]) -> dict[TopicPartition, _Span]:
        stands = {
            TopicPartition(topic, partition): position
            for topic in self.model.topics
            for partition, position in (await next_positions(connection, self.name, topic)).items()
        }
        spans = {tp: (stands.get(tp, Position(0, 0)), end) for tp, end in to.items()}
        return {tp: _Span(at.offset, at.sequence, end) for tp, (at, end) in spans.items() if at.offset < end}

    async def _skip_expired(self, connection: Connection, behind: Mapping[TopicPartition, _Span]) -> None:
        """Takes from the live version what the log no longer has of the topics that expire."""
        expiring = [tp for tp in behind if tp.topic in self.model.keep_expired]
        for tp, first in (await self.consumer.beginning_offsets(expiring)).items():
            span, start = behind[tp], min(first, behind[tp].end)
            if span.at < start:
                async with connection.transaction():
                    await connection.execute(f"SET LOCAL search_path = {schema_of(self.model.name, self.version)}")
                    await self.model.keep_expired[tp.topic](connection, tp.partition, span.at, start)
                    await self._move(connection, tp, span.at, Position(start))
                self.progress(start - span.at)
                span.at = start

    async def _window(self, connection: Connection, behind: Mapping[TopicPartition, _Span]) -> None:
        """Applies records for up to `_ROWS_A_WRITE` rows in one transaction, and advances the spans."""
        window = self.new_window()
        reached = {tp: Position(span.at, span.sequence) for tp, span in behind.items()}
        async with connection.transaction():
            await connection.execute(f"SET LOCAL search_path = {schema_of(self.model.name, self.version)}")
            while len(window) < _ROWS_A_WRITE and any(reached[tp].offset < span.end for tp, span in behind.items()):
                fetched = await self.consumer.getmany(timeout_ms=_POLL_MS, max_records=_RECORDS_A_POLL)
                sequences = {tp: position.sequence for tp, position in reached.items()}
                for tp, records in fetched.items():
                    if tp in behind and (below := [one for one in records if one.offset < behind[tp].end]):
                        sequences[tp] = await self._add(window, connection, tp, below, sequences[tp])
                # Transaction markers may follow the last record, and have offsets too.
                for tp, span in behind.items():
                    moved = min(await self.consumer.position(tp), span.end)
                    self.progress(moved - reached[tp].offset)
                    reached[tp] = Position(moved, sequences[tp])
            await window.write(connection)
            for tp, position in reached.items():
                await self._move(connection, tp, behind[tp].at, position)
        for tp, position in reached.items():
            behind[tp].at, behind[tp].sequence = position.offset, position.sequence

    async def _move(self, connection: Connection, tp: TopicPartition, at: int, to: Position) -> None:
        if not await move_checkpoint(connection, self.name, tp, at, to):
            raise RebuildRefused("Another process built the same version meanwhile.")

    async def _add(
        self, window: Window, connection: Connection, tp: TopicPartition, records: Sequence[Any], sequence: int | None
    ) -> int | None:
        """Returns the number of the last event, after ``sequence``; None on other topics."""
        gap: Exception | None = None
        if tp.topic == topics.EVENTS.name:
            _, sequence, gap = take_until_gap(records, sequence)
        try:
            if gap is not None:
                raise gap
            await window.add(connection, tp, records)
        except (cursor.SequenceGap, SequenceGap, NotAnEvent, ValidationError) as error:
            why = validation_message(error) if isinstance(error, ValidationError) else str(error)
            raise RebuildRefused(f"The log has a fault in {tp.topic}/{tp.partition}: {why.rstrip('.')}.") from None
        return sequence


@asynccontextmanager
async def builder(
    settings: Settings, pool: Pool, model: ReadModel, version: int, progress: Progress
) -> AsyncIterator[Builder]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="none",
        max_partition_fetch_bytes=topics.FETCH_BYTES_PER_PARTITION,
        **security_options(),
    )
    try:
        await consumer.start()
        growth = await read_growth(settings.kafka_bootstrap_servers)
        yield Builder(pool, consumer, model, version, progress, model.new_windows(), growth)
    finally:
        await asyncio.sleep(0)  # aiokafka cannot stop a consumer whose tasks never ran
        await consumer.stop()


async def distance(pool: Pool, model: ReadModel, version: int) -> int:
    """How many offsets the version is behind the live one."""
    async with pool.acquire() as connection:
        live = await offsets_of(connection, model, model.consumer)
        built = await offsets_of(connection, model, building_name(model, version))
    return sum(max(0, end - built.get(tp, 0)) for tp, end in live.items())


async def check(pool: Pool, building: Builder) -> int:
    """Compares the new version with the live one at equal checkpoints, and returns the number of rows.

    The live one is read in a snapshot, and continues to change; the new one is brought exactly to that snapshot. Raises
    `ModelsDiffer`.
    """
    model = building.model
    async with pool.acquire() as live, live.transaction(isolation="repeatable_read", readonly=True):
        versions = await versions_of(live, model.name)
        await building.catch_up(await building.live_offsets(live))
        async with pool.acquire() as built, built.transaction(isolation="repeatable_read", readonly=True):
            rows, differences = await table_diff.compare(
                live, schema_of(model.name, versions.live), built, schema_of(model.name, building.version), model.keys
            )
    if differences:
        raise ModelsDiffer(differences)
    return rows

"""The change feed: one Kafka consumer for the whole process, and any number of followers that read its memory.

The newest events are in memory once, in the order in which they were read, and are indexed by account. A follower
(`follower`) is an index into that order. It costs nothing while its account has no events; a slow one delays nobody.
If events are evicted before a follower has read them, that follower is cut off.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, OffsetOutOfRangeError, UnknownTopicOrPartitionError
from msgspec import DecodeError

from contracts import topics
from contracts.cursor import FIRST_POSITION, Cursor, Position, PositionTracker, SequenceGap
from contracts.kafka.parent_order import METADATA_MAX_AGE_MS, ParentOrder
from contracts.kafka.subscriber import Subscriber
from services.gateway.feed.catch_up_turns import CatchUpTurns
from services.gateway.feed.caught_up import CaughtUp
from services.gateway.feed.event_buffer import (
    BufferedEvent,
    CutOff,
    EventBuffer,
    FeedClosed,
    FrameBatch,
    Signal,
    decode_event,
)
from services.gateway.unread_answers import unread_budget

log = structlog.stdlib.get_logger(__name__)

MAX_BUFFERED_EVENTS = 20_000
MAX_BUFFERED_BYTES = 64 * 1024 * 1024
PRELOADED_OFFSETS = 1_000
"""How far before its end each partition is read at the start, so that readers that reconnect are served from memory."""

_MAX_POLL_RECORDS = 1_000
"""How many events are buffered before waiting followers are notified."""

_BROKEN_LOG = (SequenceGap, DecodeError, OffsetOutOfRangeError)


class Feed:
    """An async context manager. Entering raises KafkaError if the broker is unavailable or has no topic of events."""

    def __init__(
        self,
        bootstrap_servers: str,
        security: Mapping[str, Any],
        *,
        max_events: int = MAX_BUFFERED_EVENTS,
        preload: int = PRELOADED_OFFSETS,
    ) -> None:
        self._options: dict[str, Any] = {"bootstrap_servers": bootstrap_servers, **security}
        self.subscriber = Subscriber(**self._options)
        self._max_events, self._preload = max_events, preload
        self._buffers: dict[str | None, EventBuffer] = {None: EventBuffer(0)}
        """By account; None has the events of all accounts."""
        self._by_partition: list[list[BufferedEvent]] = []
        self._beginning: list[int] = []
        self._consumer: Any = None
        self._parents = ParentOrder(None, topics.EVENTS.name, self._options)
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self.positions = PositionTracker("", ())
        self.buffered_from: list[int] = []
        """For each partition, the offset from which memory is complete."""
        self.first_index = self.next_index = self.open_streams = self._bytes = 0
        self.caught_up = CaughtUp()
        self.catch_up_turns, self.unread = CatchUpTurns(), unread_budget()

    @property
    def deployment(self) -> str:
        return self.positions.deployment

    @property
    def partitions(self) -> int:
        return len(self.buffered_from)

    @property
    def partition_counts(self) -> set[int]:
        return self._parents.growth.counts(self.partitions)

    async def __aenter__(self) -> Self:
        admin = AIOKafkaAdminClient(**self._options)
        self._consumer = AIOKafkaConsumer(
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="none",
            metadata_max_age_ms=METADATA_MAX_AGE_MS,
            **self._options,
        )
        self._parents = ParentOrder(self._consumer, topics.EVENTS.name, self._options)
        try:
            await admin.start()
            await self._consumer.start()
            deployment = str((await admin.describe_cluster())["cluster_id"])
            partitions = (await admin.describe_topics([topics.EVENTS.name]))[0]["partitions"]
            if not partitions:
                raise UnknownTopicOrPartitionError(topics.EVENTS.name)
            await self._parents.start(len(partitions), {})
            await self._load(deployment, len(partitions))
        except BaseException:
            await self._consumer.stop()
            raise
        finally:
            await admin.close()
        self._task = asyncio.create_task(self._run())
        return self

    async def _load(self, deployment: str, count: int) -> None:
        """Reads the newest events into memory, up to the ends of the partitions."""
        ends = await self._seek(deployment, count, self._preload)
        try:
            while not all([await self._consumer.position(tp) >= end for tp, end in ends.items()]):
                self._append_records(await self._consumer.getmany(timeout_ms=200))
                await self._follow_growth()
        except _BROKEN_LOG as error:
            _log_restart(error)
            await self._seek(deployment, count, 0)

    async def _seek(self, deployment: str, count: int, preload: int) -> dict[TopicPartition, int]:
        """Clears memory and seeks so many offsets before the end of each partition. Returns the ends."""
        partitions = [TopicPartition(topics.EVENTS.name, number) for number in range(count)]
        beginnings = await self._consumer.beginning_offsets(partitions)
        ends: dict[TopicPartition, int] = await self._consumer.end_offsets(partitions)
        self._clear()
        self._beginning = [beginnings[tp] for tp in partitions]
        self.buffered_from = [max(beginnings[tp], ends[tp] - preload) for tp in partitions]
        self.positions = PositionTracker(deployment, [Position.at(offset) for offset in self.buffered_from])
        self._by_partition = [[] for _ in partitions]
        self._parents.assign(dict(zip(partitions, self.buffered_from, strict=True)), self.positions.next_offset)
        return ends

    async def _follow_growth(self) -> None:
        added = await self._parents.follow(self.partitions, self.positions.next_offset)
        self.positions.extend(self.partitions + len(added), FIRST_POSITION)
        self._beginning += [0] * len(added)
        self.buffered_from += [0] * len(added)
        self._by_partition += [[] for _ in added]

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        tasks = [task for task in (self._task, *(one.notifying for one in self._buffers.values())) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._consumer.stop()

    def _close(self) -> None:
        self._closed = True
        self._notify_all()

    def _notify_all(self) -> None:
        for buffer in self._buffers.values():
            buffer.notify()

    def beginning(self) -> Cursor:
        """Returns the cursor before the first event that the log still has."""
        return Cursor(self.deployment, tuple(Position.at(offset) for offset in self._beginning))

    async def end_offset(self, partition: int) -> int:
        [end] = (await self._consumer.end_offsets([TopicPartition(topics.EVENTS.name, partition)])).values()
        return int(end)

    async def _run(self) -> None:
        """Reads the log until cancelled. At a gap, it cuts off all followers and restarts at the end of the log."""
        broken = False
        while True:
            try:
                if broken:
                    await self._seek(self.deployment, self.partitions, 0)
                    broken = False
                    self._notify_all()
                await self._follow_growth()
                records = await self._consumer.getmany(timeout_ms=1_000, max_records=_MAX_POLL_RECORDS)
                for buffer in self._append_records(records):
                    buffer.notify_soon()
                await asyncio.sleep(0)
            except _BROKEN_LOG as error:
                _log_restart(error)
                broken = True
            except KafkaError as error:
                log.warning("change feed waits for the broker", reason=type(error).__name__)
                await asyncio.sleep(1)

    def _append_records(self, records: Mapping[Any, Sequence[Any]]) -> set[EventBuffer]:
        """Buffers records by partition. Returns the buffers that have new events."""
        changed = {self._append(record) for batch in records.values() for record in batch}
        if self.next_index - self.first_index > self._max_events or self._bytes > MAX_BUFFERED_BYTES:
            self._evict_older_half()
        return changed | {self._buffers[None]} if changed else changed

    def _append(self, record: Any) -> EventBuffer:
        fields = decode_event(record.value or b"")
        self.positions.pass_event(record.partition, record.offset, fields.partitionsequence)
        event = BufferedEvent(self.next_index, record, fields, self.positions.cursor())
        self.next_index += 1
        self._bytes += len(event.value)
        buffer = self._buffer(event.account)
        buffer.append(event)
        self._buffers[None].append(event)
        self._by_partition[event.partition].append(event)
        return buffer

    def _clear(self) -> None:
        """Empties memory, and cuts off all followers."""
        self.next_index += 1  # an index that no follower has reached
        self.first_index, self._bytes = self.next_index, 0
        for buffer in self._buffers.values():
            buffer.clear(self.first_index)

    def _evict_older_half(self) -> None:
        events = self._buffers[None].events
        evicted = events[: len(events) // 2 + 1]
        self._bytes -= sum(len(event.value) for event in evicted)
        for event in evicted:
            self.buffered_from[event.partition] = event.offset + 1
        self.first_index = evicted[-1].index + 1
        for buffer in self._buffers.values():
            buffer.evict(self.first_index)
        for partition in self._by_partition:
            del partition[: bisect_left(partition, self.first_index, key=lambda event: event.index)]
        unused = [name for name, buffer in self._buffers.items() if name and not buffer.events and not buffer.followers]
        for name in unused:
            del self._buffers[name]

    def read(self, account: str | None, index: int) -> tuple[list[BufferedEvent], Cursor, int]:
        """Returns the next batch of events from the index on, the cursor after them, and the index to continue from.

        Raises `CutOff` and `FeedClosed`.
        """
        if self._closed:
            raise FeedClosed
        buffer = self._buffer(account)
        if index < buffer.complete_from:
            raise CutOff
        events = buffer.batch_from(index)
        if events and events[-1] is not buffer.events[-1]:
            return events, events[-1].after, events[-1].index + 1
        return events, self.positions.cursor(), self.next_index

    def read_frames(self, account: str | None, index: int) -> FrameBatch | None:
        """Returns the same batch as frames, built once for all followers at this index; None if nothing was read since.

        Raises `CutOff` and `FeedClosed`.
        """
        if index == self.next_index and not self._closed:
            return None
        buffer, key = self._buffer(account), (index, self.next_index)
        if buffer.frame_batch is None or buffer.frame_batch[0] != key or self._closed:
            events, after, next_index = self.read(account, index)
            buffer.frame_batch = key, FrameBatch(b"".join([event.frame() for event in events]), after, next_index)
        return buffer.frame_batch[1]

    def _buffer(self, account: str | None) -> EventBuffer:
        buffer = self._buffers.get(account)
        if buffer is None:
            buffer = self._buffers[account] = EventBuffer(self.first_index)
        return buffer

    def add_follower(self, follower: Any, account: str | None) -> None:
        self._buffer(account).followers.add(follower)

    def follower_count(self, account: str | None) -> int:
        return len(self._buffer(account).followers)

    @contextmanager
    def notifying(self, account: str | None, signal: Signal) -> Iterator[None]:
        """Sets the signal whenever the account has new events, or the feed is closed."""
        buffer = self._buffer(account)
        buffer.signals.add(signal)
        try:
            yield
        finally:
            buffer.signals.discard(signal)

    def sequence_before(self, partition: int, offset: int) -> int | None:
        """The number of the last event before the offset; None where memory does not tell."""
        events, known = self._by_partition[partition], self.positions[partition]
        if known is None or offset < self.buffered_from[partition]:
            return None
        at = bisect_left(events, offset, key=lambda event: event.offset)
        return events[at].event.partitionsequence - 1 if at < len(events) else known.sequence


def _log_restart(error: Exception) -> None:
    log.error("change feed restarts at the end of the log", error=type(error).__name__, reason=str(error))

"""The change feed: one Kafka consumer for the whole process, and any number of followers that read its memory.

The newest events are in memory once, in the order in which they were read, and are indexed by account. A follower
(`follower`) is an index into that order. It costs nothing while its account has no events; a slow one delays nobody.
If events are evicted before a follower has read them, that follower is cut off.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import Any, Self
from weakref import WeakValueDictionary

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, OffsetOutOfRangeError, UnknownTopicOrPartitionError
from msgspec import DecodeError

from contracts import topics
from contracts.cursor import Cursor, InvalidCursor, Position, PositionTracker, SequenceGap
from contracts.kafka.subscriber import Subscriber
from services.gateway.feed.caught_up import CaughtUp
from services.gateway.feed.event_buffer import BufferedEvent, EventBuffer, FrameBatch, Signal, decode_event

log = structlog.stdlib.get_logger(__name__)

MAX_BUFFERED_EVENTS = 20_000
MAX_BUFFERED_BYTES = 64 * 1024 * 1024
PRELOADED_OFFSETS = 1_000
"""How far before its end each partition is read at the start, so that readers that reconnect are served from memory."""

MAX_CONCURRENT_CATCH_UPS = 4
_MAX_POLL_RECORDS = 1_000
"""How many events are buffered before waiting followers are notified."""

_BROKEN_LOG = (SequenceGap, DecodeError, OffsetOutOfRangeError)


class CutOff(Exception):
    """The follower's next events are not in memory, mostly because it was slow. It can reconnect with its cursor."""


class FeedClosed(Exception):
    """The gateway is stopping. Followers can reconnect with their cursors."""


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
        self._max_events, self._preload = max_events, preload
        self._buffers: dict[str | None, EventBuffer] = {None: EventBuffer(0)}
        """By account; None has the events of all accounts."""
        self._by_partition: list[list[BufferedEvent]] = []
        self._beginning: list[int] = []
        self._bytes = 0
        self._consumer: Any = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self.positions = PositionTracker("", ())
        self.buffered_from: list[int] = []
        """For each partition, the offset from which memory is complete."""
        self.first_index = self.next_index = 0
        self.caught_up = CaughtUp()
        self._catch_ups = asyncio.Semaphore(MAX_CONCURRENT_CATCH_UPS)
        self._account_turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.open_streams = 0

    @property
    def deployment(self) -> str:
        return self.positions.deployment

    @property
    def partitions(self) -> int:
        return len(self.buffered_from)

    async def __aenter__(self) -> Self:
        admin = AIOKafkaAdminClient(**self._options)
        self._consumer = AIOKafkaConsumer(
            isolation_level="read_committed", enable_auto_commit=False, auto_offset_reset="none", **self._options
        )
        try:
            await admin.start()
            await self._consumer.start()
            deployment = str((await admin.describe_cluster())["cluster_id"])
            partitions = (await admin.describe_topics([topics.EVENTS.name]))[0]["partitions"]
            if not partitions:
                raise UnknownTopicOrPartitionError(topics.EVENTS.name)
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
        except _BROKEN_LOG as error:
            _log_restart(error)
            await self._seek(deployment, count, 0)

    async def _seek(self, deployment: str, count: int, preload: int) -> dict[TopicPartition, int]:
        """Clears memory and seeks so many offsets before the end of each partition. Returns the ends."""
        partitions = [TopicPartition(topics.EVENTS.name, number) for number in range(count)]
        beginnings = await self._consumer.beginning_offsets(partitions)
        ends: dict[TopicPartition, int] = await self._consumer.end_offsets(partitions)
        self._consumer.assign(partitions)
        self._clear()
        self._beginning = [beginnings[tp] for tp in partitions]
        self.buffered_from = [max(beginnings[tp], ends[tp] - preload) for tp in partitions]
        self.positions = PositionTracker(deployment, [_position_at(offset) for offset in self.buffered_from])
        self._by_partition = [[] for _ in partitions]
        for tp, offset in zip(partitions, self.buffered_from, strict=True):
            self._consumer.seek(tp, offset)
        return ends

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
        return Cursor(self.deployment, tuple(_position_at(offset) for offset in self._beginning))

    async def end_offset(self, partition: int) -> int:
        tp = TopicPartition(topics.EVENTS.name, partition)
        return int((await self._consumer.end_offsets([tp]))[tp])

    async def _run(self) -> None:
        """Reads the log until cancelled. At a gap, it cuts off all followers and restarts at the end of the log."""
        broken = False
        while True:
            try:
                if broken:
                    await self._seek(self.deployment, self.partitions, 0)
                    broken = False
                    self._notify_all()
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

    @asynccontextmanager
    async def catch_up_turn(self, account: str | None) -> AsyncIterator[None]:
        """Waits for a turn to read Kafka: few at once, and one of each account, so that one cannot take them all."""
        turns = asyncio.Lock() if account is None else self._account_turns.setdefault(account, asyncio.Lock())
        async with turns, self._catch_ups:
            yield

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

    def require_consistent(self, partition: int, position: Position) -> None:
        """Checks that the event after the position has the next sequence. Raises `InvalidCursor`."""
        events, known = self._by_partition[partition], self.positions[partition]
        if known is None or position.offset < self.buffered_from[partition]:
            return  # reading on from there checks it
        at = bisect_left(events, position.offset, key=lambda event: event.offset)
        last = events[at].event.partitionsequence - 1 if at < len(events) else known.sequence
        if None not in (position.sequence, last) and position.sequence != last:
            raise InvalidCursor("This cursor does not fit the log: other events follow it than in the log it is from.")

    def subscriber(self) -> Subscriber:
        return Subscriber(**self._options)


def _position_at(offset: int) -> Position:
    """The sequence before an offset is known only at the beginning of the log."""
    return Position(offset, 0 if offset == 0 else None)


def _log_restart(error: Exception) -> None:
    log.error("change feed restarts at the end of the log", error=type(error).__name__, reason=str(error))

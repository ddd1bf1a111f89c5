"""The change feed: one reader of the events for the whole process, and any number of followers that read its memory.

The newest events lie in memory, once, in the order in which they were read, and again by account. A follower is an
index into that order (`follower`), so a follower costs nothing while nothing happens to its account, and a slow one
holds nothing back: when what it has not read yet is dropped from memory, it is cut off.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, OffsetOutOfRangeError, UnknownTopicOrPartitionError
from msgspec import DecodeError

from contracts import topics
from contracts.changes import Cursor, CursorRefused, GapInChanges, Place, Places
from contracts.subscriber import Subscriber
from services.gateway.lane import Burst, Entry, Lane, News, event_of

log = logging.getLogger(__name__)

KEPT_EVENTS = 20_000
KEPT_BYTES = 64 * 1024 * 1024
WARM_OFFSETS = 1_000
"""So far before the end it begins in each partition: who reconnects after our restart is served from memory."""

CATCHING_UP_AT_ONCE = 4
_MOST_A_READ = 1_000
"""Events that are taken up before those who wait are told."""


_BROKEN_LOG = (GapInChanges, DecodeError, OffsetOutOfRangeError)
_BEGINS_ANEW = "the log does not go on as it should; the change feed begins anew at its end: %s"


class CutOff(Exception):
    """What comes next is not in memory: mostly as the follower was slow. It can come again with its cursor."""


class FeedClosed(Exception):
    """The gateway ends; followers can come again with their cursors."""


class Feed:
    """An async context manager. Entering raises KafkaError where the broker is away, or has no topic of events."""

    def __init__(
        self, bootstrap_servers: str, security: Mapping[str, Any], *, kept: int = KEPT_EVENTS, warm: int = WARM_OFFSETS
    ) -> None:
        self._options: dict[str, Any] = {"bootstrap_servers": bootstrap_servers, **security}
        self._kept, self._warm = kept, warm
        self._lanes: dict[str | None, Lane] = {None: Lane(0)}
        self._by_partition: list[list[Entry]] = []
        self._first: list[int] = []
        self._bytes = 0
        self._consumer: Any = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self.places = Places("", ())
        self.floor: list[int] = []
        """In each partition, the offset from which on memory has everything."""
        self.first_index = self.next_index = 0
        self.catching_up = asyncio.Semaphore(CATCHING_UP_AT_ONCE)
        self.followers = 0

    @property
    def deployment(self) -> str:
        return self.places.deployment

    @property
    def partitions(self) -> int:
        return len(self.floor)

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
            await self._warm_up(deployment, len(partitions))
        except BaseException:
            await self._consumer.stop()
            raise
        finally:
            await admin.close()
        self._task = asyncio.create_task(self._read())
        return self

    async def _warm_up(self, deployment: str, count: int) -> None:
        ends = await self._take_places(deployment, count, self._warm)
        try:
            while not all([await self._consumer.position(home) >= end for home, end in ends.items()]):
                self._keep_all(await self._consumer.getmany(timeout_ms=200))
        except _BROKEN_LOG as error:
            log.error(_BEGINS_ANEW, error)
            await self._take_places(deployment, count, 0)

    async def _take_places(self, deployment: str, count: int, warm: int) -> dict[TopicPartition, int]:
        """Begins in each partition so far before its end, with nothing in memory; returns the ends."""
        everything = [TopicPartition(topics.EVENTS.name, number) for number in range(count)]
        first = await self._consumer.beginning_offsets(everything)
        ends: dict[TopicPartition, int] = await self._consumer.end_offsets(everything)
        self._consumer.assign(everything)
        self._forget()
        self._first = [first[home] for home in everything]
        self.floor = [max(first[home], ends[home] - warm) for home in everything]
        self.places = Places(deployment, [Place(floor, 0 if floor == 0 else None) for floor in self.floor])
        self._by_partition = [[] for _ in everything]
        for home, floor in zip(everything, self.floor, strict=True):
            self._consumer.seek(home, floor)
        return ends

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._consumer.stop()

    def _close(self) -> None:
        self._closed = True
        self._wake_all()

    def _wake_all(self) -> None:
        for lane in self._lanes.values():
            lane.wake()

    def beginning(self) -> Cursor:
        return Cursor(self.deployment, tuple(Place(first, 0 if first == 0 else None) for first in self._first))

    async def end_offset(self, partition: int) -> int:
        home = TopicPartition(topics.EVENTS.name, partition)
        return int((await self._consumer.end_offsets([home]))[home])

    async def _read(self) -> None:
        """For ever. Where the log does not go on as it should, who follows is cut off, and what comes then is read."""
        broken = False
        while True:
            try:
                if broken:
                    await self._take_places(self.deployment, self.partitions, 0)
                    broken = False
                    self._wake_all()
                fetched = await self._consumer.getmany(timeout_ms=1_000, max_records=_MOST_A_READ)
                for lane in self._keep_all(fetched):
                    lane.wake()
                await asyncio.sleep(0)
            except _BROKEN_LOG as error:
                log.error(_BEGINS_ANEW, error)
                broken = True
            except KafkaError as error:
                log.warning("the change feed waits for the broker (%s)", type(error).__name__)
                await asyncio.sleep(1)

    def _keep_all(self, fetched: Mapping[Any, Sequence[Any]]) -> set[Lane]:
        """The lanes that have something new."""
        touched = {self._keep(record) for records in fetched.values() for record in records}
        if self.next_index - self.first_index > self._kept or self._bytes > KEPT_BYTES:
            self._drop_older_half()
        return touched | {self._lanes[None]} if touched else touched

    def _keep(self, record: Any) -> Lane:
        event = event_of(record.value or b"")
        self.places.pass_event(record.partition, record.offset, event.partitionsequence)
        entry = Entry(self.next_index, record, event, self.places.cursor())
        self.next_index += 1
        self._bytes += len(entry.value)
        lane = self._lane(entry.account)
        lane.append(entry)
        self._lanes[None].append(entry)
        self._by_partition[entry.partition].append(entry)
        return lane

    def _forget(self) -> None:
        """What is in memory; who has followed so far is cut off."""
        self.next_index += 1  # where nobody is yet
        self.first_index, self._bytes = self.next_index, 0
        for lane in self._lanes.values():
            lane.forget(self.first_index)

    def _drop_older_half(self) -> None:
        everything = self._lanes[None].entries
        gone = everything[: len(everything) // 2 + 1]
        self._bytes -= sum(len(entry.value) for entry in gone)
        for entry in gone:
            self.floor[entry.partition] = entry.offset + 1
        self.first_index = gone[-1].index + 1
        for lane in self._lanes.values():
            lane.drop(self.first_index)
        for entries in self._by_partition:
            del entries[: bisect_left(entries, self.first_index, key=lambda entry: entry.index)]
        unused = [name for name, lane in self._lanes.items() if name and not lane.entries and not lane.followers]
        for name in unused:
            del self._lanes[name]

    def newest(self, account: str | None, index: int) -> tuple[list[Entry], Cursor, int]:
        """The entries from the index on, as many as are sent at once; the place behind them, and the index to go on
        from. Raises `CutOff` and `FeedClosed`."""
        if self._closed:
            raise FeedClosed
        lane = self._lane(account)
        if index < lane.complete_from:
            raise CutOff
        entries = lane.since(index)
        if entries and entries[-1] is not lane.entries[-1]:
            return entries, entries[-1].after, entries[-1].index + 1
        return entries, self.places.cursor(), self.next_index

    def burst(self, account: str | None, index: int) -> Burst | None:
        """The same as it is sent, made once for all who are there; None where nothing was read since. Raises as
        `newest` does."""
        if index == self.next_index and not self._closed:
            return None
        lane, there = self._lane(account), (index, self.next_index)
        if lane.burst is None or lane.burst[0] != there or self._closed:
            entries, after, following = self.newest(account, index)
            lane.burst = there, Burst(b"".join([entry.frame() for entry in entries]), after, following)
        return lane.burst[1]

    def _lane(self, account: str | None) -> Lane:
        lane = self._lanes.get(account)
        if lane is None:
            lane = self._lanes[account] = Lane(self.first_index)
        return lane

    def join(self, follower: Any, account: str | None) -> None:
        self._lane(account).followers.add(follower)

    def followers_of(self, account: str | None) -> int:
        return len(self._lane(account).followers)

    @contextmanager
    def listening(self, account: str | None, news: News) -> Iterator[None]:
        """Tells ``news`` whenever the account has something new, or the feed has ended."""
        lane = self._lane(account)
        lane.listening.add(news)
        try:
            yield
        finally:
            lane.listening.discard(news)

    def require_fits(self, partition: int, place: Place) -> None:
        """That the next event behind the place is the next one for who comes from there. Raises `CursorRefused`."""
        entries, known = self._by_partition[partition], self.places[partition]
        if known is None or place.offset < self.floor[partition]:
            return  # whoever reads on from there sees
        at = bisect_left(entries, place.offset, key=lambda entry: entry.offset)
        last = entries[at].event.partitionsequence - 1 if at < len(entries) else known.sequence
        if None not in (place.sequence, last) and place.sequence != last:
            raise CursorRefused("This cursor does not fit the log: other events come behind it than behind its own.")

    def subscriber(self) -> Subscriber:
        return Subscriber(**self._options)

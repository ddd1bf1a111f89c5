"""The change feed: one reader of the events for the whole process, and any number of followers that read its memory.

The newest events lie in memory, once, in the order in which they were read, and again by account. A follower is an
index into that order, so a follower costs nothing while nothing happens to its account, and a slow one holds nothing
back: when what it has not read yet is dropped from memory, it is cut off. One that comes with an older cursor catches
up from Kafka first, a few at a time.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_left
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from pydantic_core import from_json, to_json

from contracts import topics
from contracts.changes import Cursor, CursorRefused, GapInChanges, Place, Places, Wanted
from contracts.subscriber import Subscriber

log = logging.getLogger(__name__)

KEPT_EVENTS = 20_000
KEPT_BYTES = 64 * 1024 * 1024
WARM_OFFSETS = 1_000
"""So far before the end it begins in each partition: who reconnects after our restart is served from memory."""

CATCHING_UP_AT_ONCE = 4
MOST_A_BATCH = 256


class CutOff(Exception):
    """The follower was so slow that what it has not read is no longer in memory; it can come again with its cursor."""


class FeedClosed(Exception):
    """The gateway ends, or its reader of the log failed; followers can come again with their cursors."""


class Entry:
    """An event in memory; ``after`` are the reader's places behind it, the same for all who read on from there."""

    __slots__ = ("_frame", "after", "index", "kind", "offset", "partition", "subject", "value", "wanted_by")

    def __init__(self, index: int, record: Any, event: Mapping[str, Any], after: Cursor) -> None:
        self.index, self.partition, self.offset = index, record.partition, record.offset
        self.wanted_by = (event["accountid"], event["subject"], event["type"], event.get("resource", ""))
        self.value: bytes = record.value if b"\n" not in record.value else to_json(event)
        self.after = after
        self._frame: bytes | None = None

    @property
    def account(self) -> str:
        return str(self.wanted_by[0])

    def frame(self) -> bytes:
        if self._frame is None:
            self._frame = frame_of(self.value, self.after)
        return self._frame


def frame_of(value: bytes, after: Cursor | str) -> bytes:
    """An event as server-sent: its ``id`` is the cursor behind it."""
    return b"id: %b\ndata: %b\n\n" % (str(after).encode(), value)


class _Lane:
    """The entries of an account, or of all; and who waits for the next. Before ``complete_from`` it may lack some."""

    def __init__(self, complete_from: int) -> None:
        self.complete_from = complete_from
        self.entries: list[Entry] = []
        self.waiting: set[asyncio.Future[None]] = set()

    def since(self, index: int, most: int) -> list[Entry]:
        start = bisect_left(self.entries, index, key=lambda entry: entry.index)
        return self.entries[start : start + most]

    def wake(self) -> None:
        for future in self.waiting:
            if not future.done():
                future.set_result(None)
        self.waiting.clear()


class Feed:
    """An async context manager. Entering raises KafkaError where the broker is away."""

    def __init__(
        self, bootstrap_servers: str, security: Mapping[str, Any], *, kept: int = KEPT_EVENTS, warm: int = WARM_OFFSETS
    ) -> None:
        self._options: dict[str, Any] = {"bootstrap_servers": bootstrap_servers, **security}
        self._kept, self._warm = kept, warm
        self._lanes: dict[str | None, _Lane] = {None: _Lane(0)}
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
            described = await admin.describe_topics([topics.EVENTS.name])
            await self._take_places(deployment, len(described[0]["partitions"]))
        except BaseException:
            await self._consumer.stop()
            raise
        finally:
            await admin.close()
        self._task = asyncio.create_task(self._read())
        return self

    async def _take_places(self, deployment: str, count: int) -> None:
        everything = [TopicPartition(topics.EVENTS.name, number) for number in range(count)]
        first = await self._consumer.beginning_offsets(everything)
        ends = await self._consumer.end_offsets(everything)
        self._consumer.assign(everything)
        self._first = [first[home] for home in everything]
        self.floor = [max(first[home], ends[home] - self._warm) for home in everything]
        self.places = Places(deployment, [Place(floor, 0 if floor == 0 else None) for floor in self.floor])
        self._by_partition = [[] for _ in everything]
        for home, floor in zip(everything, self.floor, strict=True):
            self._consumer.seek(home, floor)
        while not all([await self._consumer.position(home) >= ends[home] for home in everything]):
            self._keep_all(await self._consumer.getmany(timeout_ms=200))

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
        for lane in self._lanes.values():
            lane.wake()

    def beginning(self) -> Cursor:
        return Cursor(self.deployment, tuple(Place(first, 0 if first == 0 else None) for first in self._first))

    async def end_offset(self, partition: int) -> int:
        home = TopicPartition(topics.EVENTS.name, partition)
        return int((await self._consumer.end_offsets([home]))[home])

    async def _read(self) -> None:
        try:
            while True:
                try:
                    fetched = await self._consumer.getmany(timeout_ms=1_000)
                except KafkaError as error:
                    log.warning("the change feed waits for the broker (%s)", type(error).__name__)
                    await asyncio.sleep(1)
                    continue
                for lane in self._keep_all(fetched):
                    lane.wake()
                await asyncio.sleep(0)
        except GapInChanges:
            log.exception("the change feed stands still")
        finally:
            self._close()

    def _keep_all(self, fetched: Mapping[Any, Sequence[Any]]) -> set[_Lane]:
        """The lanes that have something new."""
        touched = {self._lanes[None]} if fetched else set()
        for records in fetched.values():
            for record in records:
                touched.add(self._keep(record))
        if self.next_index - self.first_index > self._kept or self._bytes > KEPT_BYTES:
            self._drop_older_half()
        return touched

    def _keep(self, record: Any) -> _Lane:
        event = from_json(record.value)
        self.places.pass_event(record.partition, record.offset, event["partitionsequence"])
        entry = Entry(self.next_index, record, event, self.places.cursor())
        self.next_index += 1
        self._bytes += len(entry.value)
        lane = self._lane(entry.account)
        for entries in (self._lanes[None].entries, lane.entries, self._by_partition[entry.partition]):
            entries.append(entry)
        return lane

    def _drop_older_half(self) -> None:
        everything = self._lanes[None].entries
        gone = everything[: len(everything) // 2 + 1]
        self._bytes -= sum(len(entry.value) for entry in gone)
        for entry in gone:
            self.floor[entry.partition] = entry.offset + 1
        self.first_index = gone[-1].index + 1
        for lane in self._lanes.values():
            if dropped := _drop(lane.entries, self.first_index):
                lane.complete_from = dropped[-1].index + 1
        for entries in self._by_partition:
            _drop(entries, self.first_index)
        unused = [name for name, lane in self._lanes.items() if name and not lane.entries and not lane.waiting]
        for name in unused:
            del self._lanes[name]

    def newest(self, account: str | None, index: int, most: int) -> list[Entry]:
        """The entries from the index on. Raises `CutOff` and `FeedClosed`."""
        if self._closed:
            raise FeedClosed
        lane = self._lane(account)
        if index < lane.complete_from:
            raise CutOff
        return lane.since(index, most)

    def _lane(self, account: str | None) -> _Lane:
        return self._lanes.setdefault(account, _Lane(self.first_index))

    async def wait(self, account: str | None, seconds: float) -> None:
        """Returns when the account has something new, or the time has passed."""
        lane = self._lane(account)
        future = asyncio.get_running_loop().create_future()
        lane.waiting.add(future)
        await asyncio.wait([future], timeout=seconds)
        lane.waiting.discard(future)

    def require_fits(self, partition: int, place: Place) -> None:
        """That the event which memory has next behind the place is the next one. Raises `CursorRefused`."""
        entries = self._by_partition[partition]
        at = bisect_left(entries, place.offset, key=lambda entry: entry.offset)
        following = entries[at].after.places[partition] if at < len(entries) else None
        if place.sequence is not None and following is not None and following.sequence != place.sequence + 1:
            raise CursorRefused("This cursor does not fit the log: an event is missing behind it.")

    def subscriber(self) -> Subscriber:
        return Subscriber(**self._options)


def _drop(entries: list[Entry], before: int) -> list[Entry]:
    at = bisect_left(entries, before, key=lambda entry: entry.index)
    dropped, entries[:at] = entries[:at], []
    return dropped


class Follower:
    """One reader of the feed, from a cursor on. Batches are of (value, cursor behind it) frames.

    `start` raises `CursorRefused`; reading raises `CutOff`, `FeedClosed`, `GapInChanges` and `SubscriberBroken`.
    """

    def __init__(self, feed: Feed, wanted: Wanted, since: Cursor | None) -> None:
        self._feed, self._wanted = feed, wanted
        self._since = feed.places.cursor() if since is None else since
        self._index = feed.next_index if since is None else -1
        self._aligned = since is None

    @property
    def cursor(self) -> Cursor:
        """Behind everything that was looked at."""
        return self._since

    @property
    def behind(self) -> bool:
        """Whether memory lacks something that comes next."""
        return any((place.offset if place else 0) < floor for place, floor in self._where())

    def _where(self) -> list[tuple[Place | None, int]]:
        return list(zip(self._since.places, self._feed.floor, strict=True))

    async def start(self) -> None:
        """Judges the cursor. Raises `CursorRefused`."""
        self._since.require(self._feed.deployment, self._feed.partitions)
        for partition, place in enumerate(self._since.places):
            if place is None:
                raise CursorRefused("This cursor is of a member of a group; it lacks the others' partitions.")
            known = self._feed.places[partition]
            if known is not None and place.offset > known.offset:
                end = await self._feed.end_offset(partition)
                if place.offset > end:
                    raise CursorRefused(f"The log has no offset {place.offset} in partition {partition}.")
            if place.offset >= self._feed.floor[partition]:
                self._feed.require_fits(partition, place)

    def has_news(self) -> bool:
        """Whether there is something to take, wanted or not, or something that ended the feed."""
        try:
            return bool(self._feed.newest(self._wanted.account, self._index, 1))
        except (CutOff, FeedClosed):
            return True

    def catching_up(self) -> asyncio.Semaphore:
        return self._feed.catching_up

    async def catch_up(self) -> AsyncGenerator[tuple[bytes, Cursor], None]:
        """From Kafka, as far as the log goes at this moment: (value, cursor behind it)."""
        wanted = self._wanted
        changes = self._feed.subscriber().changes(
            str(self._since),
            account=wanted.account,
            channels=wanted.channels,
            types=wanted.types,
            resources=wanted.resources,
            endless=False,
        )
        async with aclosing(changes):
            async for change in changes:
                self._since = change.after
                yield change.value, change.after
            self._since = Cursor.parse(changes.cursor)

    def take(self, most: int = MOST_A_BATCH) -> list[tuple[Entry, Cursor]]:
        """Wanted entries, each with the cursor behind it; none only where there are no more. Not while `behind`."""
        if self._index < 0:
            self._index = self._feed.first_index
        taken: list[tuple[Entry, Cursor]] = []
        while not taken:
            entries = self._feed.newest(self._wanted.account, self._index, most)
            for entry in entries:
                self._index = entry.index + 1
                if self._passes(entry) and self._wanted.fits(*entry.wanted_by):
                    taken.append((entry, self._since))
            if len(entries) < most:
                self._index = self._feed.next_index
                self._reach(self._feed.places.cursor())
                break
        return taken

    def _passes(self, entry: Entry) -> bool:
        """Moves behind the entry; False where the follower had been there already."""
        fresh = self._aligned or entry.offset >= _offset(self._since, entry.partition)
        self._reach(entry.after)
        return fresh

    def _reach(self, there: Cursor) -> None:
        """The further of both in every partition; equal to ``there`` from some moment on, and then for ever."""
        if not self._aligned:
            pairs = list(zip(self._since.places, there.places, strict=True))
            if all(own is None or (other is not None and other.offset >= own.offset) for own, other in pairs):
                self._aligned = True
            else:
                further = (own if own and other and own.offset > other.offset else other for own, other in pairs)
                self._since = Cursor(there.deployment, tuple(further))
                return
        self._since = there

    async def wait(self, seconds: float) -> None:
        await self._feed.wait(self._wanted.account, seconds)


def _offset(cursor: Cursor, partition: int) -> int:
    place = cursor.places[partition]
    return 0 if place is None else place.offset

"""Following the changes of settings over Kafka.

    async for change in Subscriber("127.0.0.1:9092").changes(since=cursor, account="acme"):
        match change.body:
            case SmsActivated(): ...
        keep(change.cursor)

Changes come in order per channel, each once. Keep the cursor together with what the change led to, and go on from it
after whatever happened. Events of a newer type than this program knows have no ``body``; ``event.data`` has them raw.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, OffsetAndMetadata, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from pydantic import ValidationError

from . import topics
from .changes import Cursor, CursorRefused, GapInChanges, Place, Places, Wanted
from .envelope import EventEnvelope
from .letting_go import let_go
from .message import EventData

log = logging.getLogger(__name__)

BEGINNING = "beginning"
NOW = "now"
_TOPIC = topics.EVENTS.name
_REMEMBERED_CHANNELS = 100_000
_COMMIT_EVERY_S = 1.0
_AGAIN_S = 1.0
_GROUP_METADATA_MAX_AGE_MS = 5_000
"""After a broker restart aiokafka's assignor can leave a group without partitions until its metadata refreshes."""


class SubscriberBroken(Exception):
    """The broker cannot be reached, or has no topic of events."""


@dataclass(frozen=True, slots=True)
class Change:
    """An event, with the place that it has. ``value`` are its bytes as the log has them."""

    event: EventEnvelope
    value: bytes
    partition: int
    offset: int
    after: Cursor

    @property
    def body(self) -> EventData | None:
        """The event's data by its type; None where the type is newer than this program."""
        return self.event.body()

    @property
    def cursor(self) -> str:
        """To go on from behind this change, and all that came before it."""
        return str(self.after)


class Subscriber:
    """``group``: processes that name the same one share the partitions. ``security`` are aiokafka's keyword arguments.

    A group's places are kept by Kafka: a change counts as done when the next one is asked for. What was not done when
    a process ended comes again, to it or to another one: at least once.
    """

    def __init__(self, bootstrap_servers: str, *, group: str | None = None, **security: Any) -> None:
        if group == "":
            raise ValueError("a group needs a name")
        self._group = group
        self._options: dict[str, Any] = {"bootstrap_servers": bootstrap_servers, **security}

    def changes(
        self,
        since: str = NOW,
        *,
        account: str | None = None,
        channels: Iterable[str] = (),
        types: Iterable[str] = (),
        resources: Iterable[str] = (),
        endless: bool = True,
    ) -> Changes:
        """The changes after ``since``: a cursor, ``beginning`` or ``now``; in a group that holds for partitions of
        which the group has no place yet. Not ``endless``: ends with what was there when it was opened.

        Iterating raises `SubscriberBroken`, `CursorRefused` and `GapInChanges`; an id that cannot be, ValueError.
        """
        wanted = Wanted.of(account, channels, types, resources)
        return Changes(self._options, self._group, since, wanted, endless=endless)


class Changes:
    """An async iterator of `Change`, and an async context manager that closes it."""

    def __init__(
        self, options: dict[str, Any], group: str | None, since: str, wanted: Wanted, *, endless: bool
    ) -> None:
        self._options, self._group, self._since, self._wanted = options, group, since, wanted
        self._ends: dict[TopicPartition, int] | None = None
        self._endless = endless
        self._consumer: Any = None
        self._admin: Any = None
        self._buffer: deque[Any] = deque()
        self._places = Places("", ())
        self._done: dict[TopicPartition, Place] = {}
        self._delivered: tuple[TopicPartition, Place] | None = None
        self._committed_at = 0.0
        self._versions: OrderedDict[str, int] = OrderedDict()

    @property
    def cursor(self) -> str:
        """To go on from behind everything that was looked at, wanted or not. Known once it is open."""
        return str(self._places.cursor())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        if self._consumer is None:
            await self.open()
        if self._delivered is not None:
            self._done[self._delivered[0]] = self._delivered[1]
            self._delivered = None
        try:
            return await self._next()
        except (GapInChanges, StopAsyncIteration):
            await self.aclose()
            raise

    async def _next(self) -> Change:
        while True:
            while self._buffer:
                change = self._look_at(self._buffer.popleft())
                if change is not None:
                    return change
            if await self._at_end():
                raise StopAsyncIteration
            await self._fetch()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def open(self) -> None:
        """Takes its place, so that nothing that happens from now on is missed. Raises as iterating does."""
        opening = asyncio.ensure_future(self._open())
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError:
            # An aiokafka client that is cancelled while it starts leaves its connections behind.
            await asyncio.gather(opening, return_exceptions=True)
            await self.aclose()
            raise

    async def _open(self) -> None:
        cursor = None if self._since in (BEGINNING, NOW) else Cursor.parse(self._since)
        self._admin = AIOKafkaAdminClient(**self._options)
        self._consumer = AIOKafkaConsumer(
            group_id=self._group,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="none" if self._group is None else "earliest",
            max_partition_fetch_bytes=4 * 1024 * 1024,
            **({} if self._group is None else {"metadata_max_age_ms": _GROUP_METADATA_MAX_AGE_MS}),
            **self._options,
        )
        try:
            await self._admin.start()
            await self._consumer.start()
            described = await self._admin.describe_topics([_TOPIC])
            count = len(described[0]["partitions"])
            if not count:
                raise SubscriberBroken(f"The broker has no topic {_TOPIC}; `switchboard topics apply` makes it.")
            deployment = str((await self._admin.describe_cluster())["cluster_id"])
            if cursor is not None:
                cursor.require(deployment, count, whole=self._group is None)
            self._places = Places(deployment, [None] * count)
            await self._take_places(cursor, [TopicPartition(_TOPIC, number) for number in range(count)])
        except (KafkaError, OSError) as error:
            await self.aclose()
            raise SubscriberBroken(f"The broker cannot be used: {error}.") from error
        except BaseException:
            await self.aclose()
            raise

    async def _take_places(self, cursor: Cursor | None, everything: list[TopicPartition]) -> None:
        first = await self._consumer.beginning_offsets(everything)
        ends = await self._consumer.end_offsets(everything)
        if not self._endless:
            self._ends = ends
        starts = {home: self._start(cursor, home, first[home], ends[home]) for home in everything}
        if self._group is not None:
            joined = asyncio.Event()
            self._consumer.subscribe([_TOPIC], listener=_Shared(self, starts, joined))
            while not joined.is_set():
                # Raises what Kafka refuses the group for good; what comes before its place is known is passed over.
                fetched = await self._consumer.getmany(timeout_ms=200)
                self._buffer.extend(record for records in fetched.values() for record in records)
            return
        self._consumer.assign(everything)
        for home, place in starts.items():
            self._places[home.partition] = place
            self._consumer.seek(home, place.offset)

    def _start(self, cursor: Cursor | None, home: TopicPartition, first: int, end: int) -> Place:
        place: Place | None = None if cursor is None else cursor.places[home.partition]
        if place is not None:
            if not first <= place.offset <= end:
                raise CursorRefused(
                    f"The log has no offset {place.offset} in partition {home.partition}: it goes from {first} to "
                    f"{end}. Read the settings anew, and go on from the cursor that their answer carries."
                )
            return place
        if self._since == NOW:
            return Place(end, 0 if end == 0 else None)
        return Place(first, 0 if first == 0 else None)

    async def aclose(self) -> None:
        """A group learns what was done."""
        await asyncio.shield(self._close())

    async def _close(self) -> None:
        consumer, self._consumer = self._consumer, None
        admin, self._admin = self._admin, None
        self._buffer.clear()
        await asyncio.sleep(0)  # aiokafka cannot stop a consumer whose tasks never ran
        if consumer is not None:
            if self._group is not None:
                await self._commit(consumer)
            await let_go(consumer)
        if admin is not None:
            await admin.close()

    async def _at_end(self) -> bool:
        if self._ends is None:
            return False
        mine = {home: await self._consumer.position(home) for home in self._ends if home in self._consumer.assignment()}
        if any(at < self._ends[home] for home, at in mine.items()):
            return False
        for home, at in mine.items():  # behind the last event there may be markers of transactions
            place = self._places[home.partition]
            self._places[home.partition] = Place(at, None if place is None else place.sequence)
        return True

    async def _fetch(self) -> None:
        if self._group is not None and time.monotonic() - self._committed_at > _COMMIT_EVERY_S:
            await self._commit(self._consumer)
        try:
            fetched = await self._consumer.getmany(timeout_ms=200)
        except OffsetOutOfRangeError:
            raise GapInChanges("The log no longer has the events that come next; read the settings anew.") from None
        except KafkaError as error:
            log.warning("changes cannot be read: %s", type(error).__name__)
            await asyncio.sleep(_AGAIN_S)
            return
        for records in fetched.values():
            self._buffer.extend(records)

    def _look_at(self, record: Any) -> Change | None:
        """The record as a change; None where it is not wanted, not ours any more, or was there before."""
        partition = record.partition
        if self._places[partition] is None or self._places.has_passed(partition, record.offset):
            return None
        try:
            event = EventEnvelope.model_validate_json(record.value or b"")
        except ValidationError:
            raise GapInChanges(f"The record at {_TOPIC}/{partition}/{record.offset} is no event.") from None
        self._places.pass_event(partition, record.offset, event.partitionsequence)
        self._follows(event)
        home, place = TopicPartition(_TOPIC, partition), Place(record.offset + 1, event.partitionsequence)
        if not self._wanted.fits(event.accountid, event.subject, event.type, event.resource):
            if self._group is not None:
                self._done[home] = place
            return None
        self._delivered = (home, place)
        return Change(event, record.value, partition, record.offset, self._places.cursor())

    def _follows(self, event: EventEnvelope) -> None:
        """Of the channels that changed last, each event is the next one of its channel."""
        before = self._versions.pop(event.subject, None)
        if before is not None and event.sequence != before + 1:
            raise GapInChanges(
                f"Event {before + 1} of channel {event.subject!r} should come next, but {event.sequence} came."
            )
        self._versions[event.subject] = event.sequence
        if len(self._versions) > _REMEMBERED_CHANNELS:
            self._versions.popitem(last=False)

    async def _commit(self, consumer: Any) -> None:
        """Tells the group what is done; advice that fails is given again."""
        mine = consumer.assignment()
        done = {home: place for home, place in self._done.items() if home in mine}
        self._committed_at = time.monotonic()
        if not done:
            return
        try:
            await consumer.commit({home: OffsetAndMetadata(one.offset, _noted(one)) for home, one in done.items()})
        except KafkaError as error:
            log.info("places not noted: %s", type(error).__name__)
        else:
            self._done.clear()

    async def revoked(self, homes: Iterable[TopicPartition]) -> None:
        if self._consumer is None:  # it is being closed, which tells the group itself
            return
        await self._commit(self._consumer)
        for home in homes:
            self._places[home.partition] = None
            self._done.pop(home, None)
            if self._delivered is not None and self._delivered[0] == home:
                self._delivered = None  # too late to count: it comes again, here or elsewhere
        self._versions.clear()  # another member may have gone on with them before they come back
        self._buffer = deque(record for record in self._buffer if self._places[record.partition] is not None)

    async def assigned(self, homes: Iterable[TopicPartition], starts: dict[TopicPartition, Place]) -> None:
        known = await self._noted_by_group()
        if self._consumer is None:
            return
        for home in homes:
            noted = known.get(home)
            place = starts[home] if noted is None or noted.offset < 0 else Place(noted.offset, _read(noted.metadata))
            self._places[home.partition] = place
            self._done.setdefault(home, place)  # where "now" was must not move when nothing happens
            self._consumer.seek(home, place.offset)

    async def _noted_by_group(self) -> dict[TopicPartition, OffsetAndMetadata]:
        """Asked until it is known: aiokafka passes over what its listener raises, and would read on from anywhere."""
        while self._consumer is not None:
            try:
                return dict(await self._admin.list_consumer_group_offsets(self._group))
            except (KafkaError, OSError) as error:
                log.warning("the group's places cannot be read: %s", type(error).__name__)
                await asyncio.sleep(_AGAIN_S)
        return {}


class _Shared(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, changes: Changes, starts: dict[TopicPartition, Place], joined: asyncio.Event) -> None:
        self._changes, self._starts, self._joined = changes, starts, joined

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._changes.revoked(revoked)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        await self._changes.assigned(assigned, self._starts)
        self._joined.set()


def _noted(place: Place) -> str:
    return "" if place.sequence is None else str(place.sequence)


def _read(metadata: str | None) -> int | None:
    return int(metadata) if metadata and metadata.isascii() and metadata.isdigit() else None

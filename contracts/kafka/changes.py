"""Iterating over the changes of settings: the consumer behind a `Subscriber`, with its positions and its group."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from pydantic import ValidationError

from .. import topics
from ..cursor import FIRST_POSITION, ChannelVersions, Cursor, EventFilter, Position, PositionTracker, SequenceGap
from ..envelope import EventEnvelope
from ..partition_growth import Partitions
from .change import Change
from .client_shutdown import close_client
from .errors import SubscriberError
from .group_listener import GroupListener
from .group_offsets import Commits, committed_positions, retried
from .log import log
from .parent_order import METADATA_MAX_AGE_MS, ParentOrder
from .start_position import BEGINNING, NOW, start_position
from .subscriber_failure import subscriber_failure

_TOPIC = topics.EVENTS.name
_RETRY_AFTER_S = 1.0


class Changes:
    """Iterate over it with ``async for``. However the loop ends, ``break`` and Ctrl-C too, it closes.

    As an async context manager it is open for the whole block instead, for several loops and for `cursor`.
    """

    def __init__(
        self,
        options: dict[str, Any],
        group: str | None,
        since: str,
        event_filter: EventFilter,
        *,
        endless: bool,
        growths: dict[int, Partitions] | None = None,
    ) -> None:
        """``growths`` are what is known of them, as `ParentOrder.start` takes them."""
        self._options, self._group, self._since, self._filter = options, group, since, event_filter
        self._ends: dict[TopicPartition, int] | None = None
        self._endless = endless
        self._in_block = False
        self._iterated = False
        self._consumer: Any = None
        self._admin: Any = None
        self._buffer: deque[Any] = deque()
        self._tracker = PositionTracker("", ())
        self._parents = ParentOrder(None, _TOPIC, options)
        self._growths = {} if growths is None else growths
        self._group_positions: Mapping[TopicPartition, Position] = {}
        """Where the group was when it was last asked."""
        self._commits = Commits()
        self._yielded: tuple[TopicPartition, Position] | None = None
        self._versions = ChannelVersions()

    @property
    def cursor(self) -> str:
        """Resumes after every event that was read, whether it passed the filter or not. Known once opened."""
        return str(self._tracker.cursor())

    async def __aiter__(self) -> AsyncGenerator[Change, None]:
        """A generator, which Python closes when a loop that has left it forgets it."""
        if self._iterated and not self._in_block:
            raise SubscriberError("These changes were iterated over, and are closed; ask the subscriber for others.")
        self._iterated = True
        try:
            while True:
                try:
                    change = await self.__anext__()
                except StopAsyncIteration:
                    return
                yield change
        finally:
            if not self._in_block:
                await self.aclose()

    async def __anext__(self) -> Change:
        if self._consumer is None:
            await self.open()
        if self._yielded is not None:
            self._commits.waiting[self._yielded[0]] = self._yielded[1]
            self._yielded = None
        try:
            return await self._next()
        except (SequenceGap, StopAsyncIteration):
            await self.aclose()
            raise

    async def _next(self) -> Change:
        while True:
            while self._buffer:
                if len(self._buffer) % 32 == 0:  # the program's other tasks have a turn, and may revoke what is left
                    await asyncio.sleep(0)
                change = self._to_change(self._buffer.popleft()) if self._buffer else None
                if change is not None:
                    return change
            if await self._at_end():
                raise StopAsyncIteration
            await self._fetch()

    async def __aenter__(self) -> Self:
        self._in_block = True
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def open(self) -> None:
        """Fixes the start position, so that no later change is missed. Raises what iterating raises."""
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
            max_partition_fetch_bytes=topics.FETCH_BYTES_PER_PARTITION,
            metadata_max_age_ms=METADATA_MAX_AGE_MS,
            **self._options,
        )
        try:
            await self._admin.start()
            await self._consumer.start()
            described = await self._admin.describe_topics([_TOPIC])
            count = len(described[0]["partitions"])
            if not count:
                raise SubscriberError(f"The broker has no topic {_TOPIC}; `switchboard topics apply` makes it.")
            deployment = str((await self._admin.describe_cluster())["cluster_id"])
            self._parents = ParentOrder(self._consumer, _TOPIC, self._options)
            await self._parents.start(count, self._growths, in_group=self._group is not None)
            if cursor is not None:
                counts = self._parents.growth.counts(count)
                cursor = cursor.require(deployment, counts, whole=self._group is None)
            self._tracker = PositionTracker(deployment, [None] * count)
            await self._seek_to_start(cursor, [TopicPartition(_TOPIC, number) for number in range(count)])
        except (KafkaError, OSError) as error:
            await self.aclose()
            raise subscriber_failure(error, self._options["bootstrap_servers"]) from error
        except BaseException:
            await self.aclose()
            raise

    async def _seek_to_start(self, cursor: Cursor | None, partitions: list[TopicPartition]) -> None:
        first = await self._consumer.beginning_offsets(partitions)
        ends = await self._consumer.end_offsets(partitions)
        if not self._endless:
            self._ends = ends
        starts = {tp: start_position(self._since, cursor, tp.partition, first[tp], ends[tp]) for tp in partitions}
        if self._group is not None:
            if self._parents.growth.growths:
                await retried(self._read_group_positions, self._is_open, raises_lasting=True)
            known = {tp.partition for tp in self._group_positions if tp.topic == _TOPIC}
            for tp in partitions:  # what was added since the group has read their parents comes next
                if any(one.partition in known for one in self._parents.growth.ancestors(_TOPIC, tp.partition)):
                    starts[tp] = FIRST_POSITION
            joined = asyncio.Event()
            self._consumer.subscribe([_TOPIC], listener=GroupListener(self, starts, joined))
            while not joined.is_set():
                # Raises permanent errors of the group. Records that come before the position is known are skipped.
                fetched = await self._consumer.getmany(timeout_ms=200)
                self._buffer.extend(record for records in fetched.values() for record in records)
            return
        for tp, position in starts.items():
            self._tracker[tp.partition] = position
        self._parents.assign({tp: position.offset for tp, position in starts.items()}, self._next_offset)

    def _next_offset(self, partition: int) -> int:
        elsewhere = self._group_positions.get(TopicPartition(_TOPIC, partition), FIRST_POSITION)
        return self._tracker.next_offset(partition) or elsewhere.offset

    async def aclose(self) -> None:
        """Commits the positions of a group and closes the clients."""
        await asyncio.shield(self._close())

    async def _close(self) -> None:
        consumer, self._consumer = self._consumer, None
        admin, self._admin = self._admin, None
        self._buffer.clear()
        await asyncio.sleep(0)  # aiokafka cannot stop a consumer whose tasks never ran
        if consumer is not None:
            if self._group is not None:
                await self._commits.commit(consumer)
            await close_client(consumer)
        if admin is not None:
            await admin.close()

    async def _at_end(self) -> bool:
        if self._ends is None:
            return False
        assigned = {tp: await self._consumer.position(tp) for tp in self._ends if tp in self._consumer.assignment()}
        if any(at < self._ends[tp] for tp, at in assigned.items()):
            return False
        for tp, at in assigned.items():  # transaction markers may follow the last event
            position = self._tracker[tp.partition]
            self._tracker[tp.partition] = Position(at, None if position is None else position.sequence)
        return True

    async def _fetch(self) -> None:
        if self._group is not None and self._commits.is_due:
            await self._commits.commit(self._consumer)
        try:
            await self._follow_growth()
            fetched = await self._consumer.getmany(timeout_ms=200, max_records=500)
        except OffsetOutOfRangeError:
            raise SequenceGap("The log no longer has the next events; read the settings again.") from None
        except KafkaError as error:
            log.warning("changes cannot be read: %s", type(error).__name__)
            await asyncio.sleep(_RETRY_AFTER_S)
            return
        for records in fetched.values():
            self._buffer.extend(records)

    async def _follow_growth(self) -> None:
        if self._group is not None and self._parents.held and self._parents.is_look_due:
            await self._read_group_positions()
        known = len(self._tracker) if self._endless and self._group is None else None
        for number in await self._parents.follow(known, self._next_offset):
            self._tracker.extend(number + 1, FIRST_POSITION)

    def _to_change(self, record: Any) -> Change | None:
        """The record as a change; None where it is filtered out, revoked, or was delivered before."""
        partition = record.partition
        if self._tracker[partition] is None or self._tracker.has_passed(partition, record.offset):
            return None
        try:
            event = EventEnvelope.model_validate_json(record.value or b"")
        except ValidationError:
            raise SequenceGap(f"The record at {_TOPIC}/{partition}/{record.offset} is not an event.") from None
        self._tracker.pass_event(partition, record.offset, event.partitionsequence)
        self._versions.pass_event(event.subject, event.sequence)
        tp, position = TopicPartition(_TOPIC, partition), Position(record.offset + 1, event.partitionsequence)
        if not self._filter.fits(event.accountid, event.subject, event.type, event.resource):
            if self._group is not None:
                self._commits.waiting[tp] = position
            return None
        self._yielded = (tp, position)
        return Change(event, record.value, partition, record.offset, self._tracker.cursor())

    async def revoked(self, tps: Iterable[TopicPartition]) -> None:
        if self._consumer is None:  # closing commits by itself
            return
        await self._commits.commit(self._consumer)
        for tp in tps:
            self._tracker[tp.partition] = None
            self._commits.waiting.pop(tp, None)
            if self._yielded is not None and self._yielded[0] == tp:
                self._yielded = None  # not committed: it is delivered again, here or elsewhere
        self._versions.clear()  # another member may deliver later events before the partition comes back
        self._buffer = deque(record for record in self._buffer if self._tracker[record.partition] is not None)

    async def assigned(self, tps: Iterable[TopicPartition], starts: Mapping[TopicPartition, Position]) -> None:
        if self._consumer is None:
            return
        tps = list(tps)
        existing = max(self._parents.existing(), *(tp.partition + 1 for tp in tps), 0)
        if existing > len(self._tracker):
            await retried(self._parents.read_growth, self._is_open)
            self._tracker.extend(existing, None)
        await retried(self._read_group_positions, self._is_open)
        if self._consumer is None:
            return
        for tp in tps:
            position = self._group_positions.get(tp) or starts.get(tp, FIRST_POSITION)
            self._tracker[tp.partition] = position
            self._commits.waiting.setdefault(
                tp, position
            )  # commits the position of "now", so that it does not move before the first change
            self._consumer.seek(tp, position.offset)
        self._parents.hold(tps, self._next_offset)

    def _is_open(self) -> bool:
        return self._consumer is not None

    async def _read_group_positions(self) -> None:
        self._group_positions = await committed_positions(self._admin, self._group)

"""A follower of the change feed: one reader, from a cursor on.

A follower whose cursor is older than the feed's memory first catches up from Kafka. Few followers catch up at a time,
each for a short turn, and none keeps its turn while its connection takes what the last turn found.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager, suppress

from contracts.cursor import Cursor, EventFilter, InvalidCursor, Position
from contracts.kafka.parent_order import METADATA_MAX_AGE_MS
from services.gateway.feed.caught_up import CatchUpBatch, ReadResult
from services.gateway.feed.event_buffer import BufferedEvent, Signal, frame_of, one_line
from services.gateway.feed.feed import Feed

CATCH_UP_TURN_S = 2.0
CATCH_UP_TURN_BYTES = 256 * 1024
"""A turn of catching up ends after this time, or once it has found so much."""

_ADDED_PARTITIONS_TIMEOUT_S = 1.5 * METADATA_MAX_AGE_MS / 1000
_POLL_INTERVAL_S = 0.05


class Follower:
    """One reader of the feed, from a cursor on; from now on if ``since`` is None.

    `start` raises `InvalidCursor`; reading raises `CutOff`, `FeedClosed`, `SequenceGap` and `SubscriberError`.
    """

    def __init__(self, feed: Feed, event_filter: EventFilter, since: Cursor | None) -> None:
        self._feed, self._filter, self.account = feed, event_filter, event_filter.account
        self._cursor = feed.positions.cursor() if since is None else since
        self._index = feed.next_index if since is None else -1
        self._aligned = since is None
        """Whether the cursor is the feed's own at some index, so that the feed's cursors are the follower's too."""
        self._ahead: dict[int, Position] = {}
        """Positions of the cursor that the feed itself has not reached."""
        self._wants_all = event_filter == EventFilter(event_filter.account)
        feed.add_follower(self, event_filter.account)

    @property
    def cursor(self) -> Cursor:
        """The cursor after everything that was read."""
        return self._cursor

    @property
    def is_behind(self) -> bool:
        """Whether the next events may not be in memory. False for ever once memory was read."""
        if self._index >= 0:
            return False
        positions = self._cursor.extended(self._feed.partitions).positions
        pairs = zip(positions, self._feed.buffered_from, strict=False)  # Kafka may have newer partitions
        return any((position.offset if position else 0) < first for position, first in pairs)

    async def start(self) -> None:
        """Checks the cursor against the log. Raises `InvalidCursor`."""
        await self._until_feed_has_partitions()
        self._cursor = self._cursor.require(self._feed.deployment, self._feed.partition_counts)
        for partition, position in enumerate(self._cursor.positions):
            known = self._feed.positions[partition]
            if position is None or known is None:
                continue
            if position.offset > known.offset:
                end = await self._feed.end_offset(partition)
                if position.offset > end:
                    raise InvalidCursor(f"The log has no offset {position.offset} in partition {partition}.")
                self._ahead[partition] = position
            else:
                self._require_consistent(partition, position)

    async def _until_feed_has_partitions(self) -> None:
        """The cursor may come from who noticed earlier that partitions were added."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_ADDED_PARTITIONS_TIMEOUT_S):
                while self._is_of_more_partitions():  # noqa: ASYNC110 -- its metadata is refreshed by a timer
                    await asyncio.sleep(_POLL_INTERVAL_S)

    def _is_of_more_partitions(self) -> bool:
        cursor, feed = self._cursor, self._feed
        return cursor.deployment == feed.deployment and len(cursor.positions) > feed.partitions

    def _require_consistent(self, partition: int, position: Position) -> None:
        """Checks that the event after the position has the next sequence. Raises `InvalidCursor`."""
        last = self._feed.sequence_before(partition, position.offset)  # where it is not known, reading on checks it
        if None not in (position.sequence, last) and position.sequence != last:
            raise InvalidCursor("This cursor does not fit the log: other events follow it than in the log it is from.")

    async def catch_up(self) -> ReadResult:
        """Reads one turn from Kafka and returns what it found. Call it again while `is_behind`."""
        return self.advance(await self.read_catch_up_batch())

    def advance(self, batch: CatchUpBatch) -> ReadResult:
        """Moves the cursor after the batch, and returns its changes, which the reader must then be sent."""
        self._cursor = batch.after
        return batch.changes

    async def read_catch_up_batch(self) -> CatchUpBatch:
        """Waits for a turn and reads Kafka. The cursor does not move until `advance` is called.

        Readers that begin at the same cursor, as after a restart of theirs, get what one of them has read.
        """
        key = (self._filter, str(self._cursor))
        async with self._feed.catch_up_turns.turn(self.account):
            batch = self._feed.caught_up.get(key)
            if batch is None:
                batch = await self._read_kafka()
                self._feed.caught_up.put(key, batch)
            return batch

    async def _read_kafka(self) -> CatchUpBatch:
        size = 0
        found: ReadResult = []
        changes = self._feed.subscriber.changes(
            str(self._cursor),
            account=self.account,
            channels=self._filter.channels,
            types=self._filter.types,
            resources=self._filter.resources,
            endless=False,
        )
        async with changes:
            with suppress(TimeoutError):
                async with asyncio.timeout(CATCH_UP_TURN_S):
                    async for change in changes:
                        found.append((one_line(change.value), change.after))
                        size += len(change.value)
                        if size > CATCH_UP_TURN_BYTES:
                            break
            return CatchUpBatch(found, Cursor.parse(changes.cursor))

    def read(self) -> ReadResult:
        """Reads memory; empty only if there is no more. Must not be called while `is_behind`."""
        return [(event.value, after) for event, after in self._read()]

    def read_frames(self) -> bytes:
        """Reads the same as server-sent events."""
        if self._aligned and self._wants_all and not self._ahead:  # the common case: thousands of readers may share it
            batch = self._feed.read_frames(self.account, self._index)
            if batch is None:
                return b""
            self._cursor, self._index = batch.after, batch.next_index
            return batch.frames
        return b"".join(
            event.frame() if after is event.after else frame_of(event.value, after) for event, after in self._read()
        )

    def _read(self) -> list[tuple[BufferedEvent, Cursor]]:
        if self._index < 0:
            self._index = self._feed.first_index
        for partition, position in list(self._ahead.items()):
            known = self._feed.positions[partition]
            if known is not None and known.offset >= position.offset:
                self._require_consistent(partition, self._ahead.pop(partition))
        while True:
            events, after, self._index = self._feed.read(self.account, self._index)
            accepted = [(event, self._cursor) for event in events if self._accept(event)]
            self._advance_to(after)
            if accepted or not events:
                return accepted

    def _accept(self, event: BufferedEvent) -> bool:
        """Moves the cursor after the event. Returns False if it is filtered out, or the cursor was already after it."""
        fields, own = event.event, self._cursor.extended(event.partition + 1).positions[event.partition]
        is_new = self._aligned or own is None or event.offset >= own.offset
        self._advance_to(event.after)
        return is_new and self._filter.fits(fields.accountid, fields.subject, fields.type, fields.resource)

    def _advance_to(self, feed_cursor: Cursor) -> None:
        """Takes the later position of both cursors in every partition, until the feed's is later in all of them."""
        if not self._aligned:
            own_cursor = self._cursor.extended(len(feed_cursor.positions))
            feed_cursor = feed_cursor.extended(len(own_cursor.positions))
            pairs = list(zip(own_cursor.positions, feed_cursor.positions, strict=True))
            if all(own is None or (feed is not None and feed.offset >= own.offset) for own, feed in pairs):
                self._aligned = True
            else:
                later = (own if own and feed and own.offset > feed.offset else feed for own, feed in pairs)
                self._cursor = Cursor(feed_cursor.deployment, tuple(later))
                return
        self._cursor = feed_cursor

    def notifying(self, signal: Signal) -> AbstractContextManager[None]:
        """Sets the signal whenever there may be something to read."""
        return self._feed.notifying(self.account, signal)

    async def wait(self, seconds: float) -> None:
        """Returns when there may be something to read, or the time has passed."""
        with self.notifying(signal := Signal()), suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await signal.wait()

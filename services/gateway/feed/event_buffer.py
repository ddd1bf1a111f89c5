"""The newest events in a gateway's memory, and the signals of those who wait for the next: the parts of `feed`."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from typing import Any, NamedTuple
from weakref import WeakSet

from msgspec import Struct
from msgspec.json import Decoder
from pydantic_core import from_json, to_json

from contracts.cursor import Cursor

MAX_BATCH_EVENTS = 256
MAX_BATCH_BYTES = 256 * 1024
"""Limits of one write to a connection, and so of what a connection that reads nothing keeps in memory."""

SIGNALS_AT_ONCE = 32
LONGEST_PAUSE_S = 0.25


class CutOff(Exception):
    """The follower's next events are not in memory, mostly because it was slow. It can reconnect with its cursor."""


class FeedClosed(Exception):
    """The gateway is stopping. Followers can reconnect with their cursors."""


class EventFields(Struct, gc=False):
    """The fields of an event that the feed itself needs. Readers get the event as the log has it."""

    accountid: str
    subject: str
    type: str
    partitionsequence: int
    resource: str = ""


decode_event = Decoder(EventFields).decode


def one_line(value: bytes) -> bytes:
    """Returns the JSON without line breaks, which would end a server-sent event's data."""
    return to_json(from_json(value)) if b"\n" in value or b"\r" in value else value


class BufferedEvent:
    """An event in memory. ``after`` is the cursor after it, the same for all readers that follow the feed."""

    __slots__ = ("_frame_id", "account", "after", "event", "index", "offset", "partition", "value")

    def __init__(self, index: int, record: Any, event: EventFields, after: Cursor) -> None:
        self.index, self.partition, self.offset = index, record.partition, record.offset
        self.event, self.account, self.after = event, event.accountid, after
        self.value = one_line(record.value)
        self._frame_id: bytes | None = None

    def frame(self) -> bytes:
        """Returns the event as a server-sent event with the feed's cursor."""
        if self._frame_id is None:
            self._frame_id = str(self.after).encode()
        return b"id: %b\ndata: %b\n\n" % (self._frame_id, self.value)


def frame_of(value: bytes, after: Cursor) -> bytes:
    """Returns an event as a server-sent event whose ``id`` is the cursor after it."""
    return b"id: %b\ndata: %b\n\n" % (str(after).encode(), value)


class Signal:
    """Wakes the one task that waits for it. A signal that is set before the wait is not lost.

    It replaces asyncio.Event, which looks up the running loop, and so makes a system call, at each wait.
    """

    __slots__ = ("_create_future", "_is_set", "_waiter")

    def __init__(self) -> None:
        self._create_future = asyncio.get_running_loop().create_future
        self._waiter: asyncio.Future[None] | None = None
        self._is_set = False

    def set(self) -> None:
        self._is_set = True
        if self._waiter is not None:
            if not self._waiter.done():
                self._waiter.set_result(None)
            self._waiter = None

    async def wait(self) -> None:
        """Returns once the signal is set, and clears it."""
        if not self._is_set:
            self._waiter = self._create_future()
            await self._waiter
        self._is_set = False


class FrameBatch(NamedTuple):
    """The next frames for all followers at the same index that want all of an account's events; built once for them."""

    frames: bytes
    after: Cursor
    next_index: int


class EventBuffer:
    """The buffered events of one account, or of all. It may lack events before ``complete_from``.

    It is kept while it has ``followers``: a new buffer could not tell them whether they missed anything.
    """

    def __init__(self, complete_from: int) -> None:
        self.complete_from = complete_from
        self.events: list[BufferedEvent] = []
        self.indexes: list[int] = []
        self.followers: WeakSet[Any] = WeakSet()
        self.signals: set[Signal] = set()
        self.frame_batch: tuple[tuple[int, int], FrameBatch] | None = None
        self.notifying: asyncio.Task[None] | None = None
        self._has_news = False

    def append(self, event: BufferedEvent) -> None:
        self.events.append(event)
        self.indexes.append(event.index)

    def batch_from(self, index: int) -> list[BufferedEvent]:
        """Returns the next events from the index on, within the limits of one batch."""
        start = bisect_left(self.indexes, index)
        size, batch = 0, self.events[start : start + MAX_BATCH_EVENTS]
        for count, event in enumerate(batch, 1):
            size += len(event.value)
            if size > MAX_BATCH_BYTES:
                return batch[:count]
        return batch

    def evict(self, before: int) -> None:
        """Drops the events before the index."""
        count = bisect_left(self.indexes, before)
        if count:
            self.complete_from = self.indexes[count - 1] + 1
            del self.events[:count], self.indexes[:count]
            self.frame_batch = None

    def clear(self, complete_from: int) -> None:
        """Drops all events. Followers that have not reached the index are cut off."""
        self.complete_from, self.frame_batch = complete_from, None
        self.events.clear()
        self.indexes.clear()

    def notify(self) -> None:
        """Sets the signals of all who wait for this buffer."""
        for signal in self.signals:
            signal.set()

    def notify_soon(self) -> None:
        """Does the same, for an account's thousands of streams in a task of its own, so that nobody else waits for it.

        What comes meanwhile is told in one more pass, however much it is.
        """
        if len(self.signals) <= SIGNALS_AT_ONCE:
            self.notify()
            return
        self._has_news = True
        if self.notifying is None or self.notifying.done():
            self.notifying = asyncio.create_task(self._notify_in_turns())

    async def _notify_in_turns(self) -> None:
        """A few at a time, so that other tasks have turns in between, and after all of them as much time again.

        So many streams of one account have half of the time, however often it changes something. What comes in the
        pause goes to each of them in one write.
        """
        clock = asyncio.get_running_loop().time
        while self._has_news:
            self._has_news, began = False, clock()
            for number, signal in enumerate(list(self.signals), 1):
                signal.set()
                if number % SIGNALS_AT_ONCE == 0:
                    await asyncio.sleep(0)
            await asyncio.sleep(min(clock() - began, LONGEST_PAUSE_S))

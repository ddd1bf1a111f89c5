"""The events in a gateway's memory, and who waits for the next: what the change feed (`feed`) is made of."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from typing import Any, NamedTuple
from weakref import WeakSet

from msgspec import Struct
from msgspec.json import Decoder
from pydantic_core import from_json, to_json

from contracts.changes import Cursor

MOST_A_BURST = 256
MOST_BYTES_A_BURST = 256 * 1024
"""So much is written to a connection at once; so much, then, of one that takes nothing lies in our memory."""


class Event(Struct, gc=False):
    """What the feed itself needs to know of an event. The rest goes to readers as the log has it."""

    accountid: str
    subject: str
    type: str
    partitionsequence: int
    resource: str = ""


event_of = Decoder(Event).decode


def one_line(value: bytes) -> bytes:
    """The same JSON without a line's end, which would end server-sent data; it stands between tokens at most."""
    return to_json(from_json(value)) if b"\n" in value or b"\r" in value else value


class Entry:
    """An event in memory; ``after`` are the reader's places behind it, the same for all who read on from there."""

    __slots__ = ("_frame_id", "account", "after", "event", "index", "offset", "partition", "value")

    def __init__(self, index: int, record: Any, event: Event, after: Cursor) -> None:
        self.index, self.partition, self.offset = index, record.partition, record.offset
        self.event, self.account, self.after = event, event.accountid, after
        self.value = one_line(record.value)
        self._frame_id: bytes | None = None

    def frame(self) -> bytes:
        if self._frame_id is None:
            self._frame_id = str(self.after).encode()
        return b"id: %b\ndata: %b\n\n" % (self._frame_id, self.value)


def frame_of(value: bytes, after: Cursor) -> bytes:
    """An event as server-sent: its ``id`` is the cursor behind it."""
    return b"id: %b\ndata: %b\n\n" % (str(after).encode(), value)


class News:
    """Wakes the one task that waits for it; told before, it is not lost.

    As asyncio.Event, which asks for the running loop, and with it the operating system, each time.
    """

    __slots__ = ("_create_future", "_told", "_waiting")

    def __init__(self) -> None:
        self._create_future = asyncio.get_running_loop().create_future
        self._waiting: asyncio.Future[None] | None = None
        self._told = False

    def tell(self) -> None:
        self._told = True
        if self._waiting is not None:
            if not self._waiting.done():
                self._waiting.set_result(None)
            self._waiting = None

    async def wait(self) -> None:
        if not self._told:
            self._waiting = self._create_future()
            await self._waiting
        self._told = False


class Burst(NamedTuple):
    """What comes next for all who have read an account so far and want everything; made once for them."""

    frames: bytes
    after: Cursor
    next_index: int


class Lane:
    """The entries of an account, or of all; and who waits for the next. Before ``complete_from`` it may lack some.

    It stays while it has ``followers``: one made anew could not tell them whether they missed anything.
    """

    def __init__(self, complete_from: int) -> None:
        self.complete_from = complete_from
        self.entries: list[Entry] = []
        self.indexes: list[int] = []
        self.followers: WeakSet[Any] = WeakSet()
        self.listening: set[News] = set()
        self.burst: tuple[tuple[int, int], Burst] | None = None

    def append(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.indexes.append(entry.index)

    def since(self, index: int) -> list[Entry]:
        start = bisect_left(self.indexes, index)
        size, chosen = 0, self.entries[start : start + MOST_A_BURST]
        for at, entry in enumerate(chosen, 1):
            size += len(entry.value)
            if size > MOST_BYTES_A_BURST:
                return chosen[:at]
        return chosen

    def drop(self, before: int) -> None:
        at = bisect_left(self.indexes, before)
        if at:
            self.complete_from = self.indexes[at - 1] + 1
            del self.entries[:at], self.indexes[:at]
            self.burst = None

    def forget(self, before: int) -> None:
        """Everything; who has not read up to this index can no longer."""
        self.complete_from, self.burst = before, None
        self.entries.clear()
        self.indexes.clear()

    def wake(self) -> None:
        for news in self.listening:
            news.tell()

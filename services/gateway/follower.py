"""A follower of the change feed. One that comes with a cursor older than the feed's memory catches up from Kafka first:
a few at a time, in short turns, and never while its connection takes what the last turn found.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass

from contracts.changes import Cursor, CursorRefused, Place, Wanted
from services.gateway.feed import Feed
from services.gateway.lane import Entry, News, frame_of, one_line

TURN_S = 2.0
TURN_BYTES = 256 * 1024
"""A turn of catching up ends after so long, or with so much found."""

Found = list[tuple[bytes, Cursor]]
"""Events, each with the cursor behind it."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What a turn of catching up found, and the cursor behind all that it looked at."""

    found: Found
    after: Cursor


class Follower:
    """One reader of the feed, from a cursor on.

    `start` raises `CursorRefused`; reading raises `CutOff`, `FeedClosed`, `GapInChanges` and `SubscriberBroken`.
    """

    def __init__(self, feed: Feed, wanted: Wanted, since: Cursor | None) -> None:
        self._feed, self._wanted = feed, wanted
        self._since = feed.places.cursor() if since is None else since
        self._index = feed.next_index if since is None else -1
        self._aligned = since is None
        self._ahead: dict[int, Place] = {}
        """Places of its cursor that the feed itself has not reached."""
        self._wants_all = wanted == Wanted(wanted.account)
        feed.join(self, wanted.account)

    @property
    def cursor(self) -> Cursor:
        """Behind everything that was looked at."""
        return self._since

    @property
    def behind(self) -> bool:
        """Whether memory lacks something that comes next. Never again once something was taken from there."""
        where = zip(self._since.places, self._feed.floor, strict=True)
        return self._index < 0 and any((place.offset if place else 0) < floor for place, floor in where)

    async def start(self) -> None:
        """Judges the cursor. Raises `CursorRefused`."""
        self._since.require(self._feed.deployment, self._feed.partitions)
        for partition, place in enumerate(self._since.places):
            known = self._feed.places[partition]
            if place is None or known is None:
                continue
            if place.offset > known.offset:
                end = await self._feed.end_offset(partition)
                if place.offset > end:
                    raise CursorRefused(f"The log has no offset {place.offset} in partition {partition}.")
                self._ahead[partition] = place
            else:
                self._feed.require_fits(partition, place)

    async def catch_up(self) -> Found:
        """A turn of reading Kafka, and what it found; again and again while `behind`."""
        return self.go_on(await self.read_turn())

    def go_on(self, turn: Turn) -> Found:
        """Moves behind what a turn looked at; whoever has the cursor from then on must have what it found."""
        self._since = turn.after
        return turn.found

    async def read_turn(self) -> Turn:
        """A turn, once others have had theirs. The follower stays where it is until it is told to `go_on`."""
        async with self._feed.catching_up:
            return await self._read_turn()

    async def _read_turn(self) -> Turn:
        wanted, size = self._wanted, 0
        found: Found = []
        changes = self._feed.subscriber().changes(
            str(self._since),
            account=wanted.account,
            channels=wanted.channels,
            types=wanted.types,
            resources=wanted.resources,
            endless=False,
        )
        async with changes:
            with suppress(TimeoutError):
                async with asyncio.timeout(TURN_S):
                    async for change in changes:
                        found.append((one_line(change.value), change.after))
                        size += len(change.value)
                        if size > TURN_BYTES:
                            break
            return Turn(found, Cursor.parse(changes.cursor))

    def take(self) -> Found:
        """From memory; nothing only where there is no more. Not while `behind`."""
        return [(entry.value, after) for entry, after in self._take()]

    def take_frames(self) -> bytes:
        """The same, as server-sent."""
        if self._aligned and self._wants_all and not self._ahead:  # as most readers do, of which there may be thousands
            burst = self._feed.burst(self._wanted.account, self._index)
            if burst is None:
                return b""
            self._since, self._index = burst.after, burst.next_index
            return burst.frames
        return b"".join(
            entry.frame() if after is entry.after else frame_of(entry.value, after) for entry, after in self._take()
        )

    def _take(self) -> list[tuple[Entry, Cursor]]:
        if self._index < 0:
            self._index = self._feed.first_index
        for partition, place in list(self._ahead.items()):
            known = self._feed.places[partition]
            if known is not None and known.offset >= place.offset:
                self._feed.require_fits(partition, self._ahead.pop(partition))
        while True:
            entries, after, self._index = self._feed.newest(self._wanted.account, self._index)
            taken = [(entry, self._since) for entry in entries if self._passes(entry)]
            self._reach(after)
            if taken or not entries:
                return taken

    def _passes(self, entry: Entry) -> bool:
        """Moves behind the entry; False where it is not wanted, or the follower had been there already."""
        event, own = entry.event, self._since.places[entry.partition]
        fresh = self._aligned or own is None or entry.offset >= own.offset
        self._reach(entry.after)
        return fresh and self._wanted.fits(event.accountid, event.subject, event.type, event.resource)

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

    def listening(self, news: News) -> AbstractContextManager[None]:
        """Tells ``news`` whenever there may be something to take."""
        return self._feed.listening(self._wanted.account, news)

    async def wait(self, seconds: float) -> None:
        """Returns when there may be something to take, or the time has passed."""
        with self.listening(news := News()), suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await news.wait()

"""Changes as server-sent events on one connection.

There may be thousands of them, and each event goes to many: a connection has one task that sends, which is woken once
for all that has come, and no timer but that of its heartbeat.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import uniform
from typing import Any

from fastapi.responses import Response
from pydantic_core import to_json
from starlette.types import Message, Receive, Scope, Send

from contracts.changes import CursorRefused, GapInChanges
from contracts.subscriber import SubscriberBroken
from services.gateway.feed import CutOff, Feed, FeedClosed
from services.gateway.follower import Follower, Turn
from services.gateway.lane import News, frame_of

log = logging.getLogger(__name__)

HEARTBEAT_S = 15.0
STALLED_AFTER_S = 30.0
"""A connection that takes nothing for so long is ended."""


class EventStream(Response):
    """Ends with an event that says why, and whoever comes again with its last id misses nothing."""

    media_type = "text/event-stream"

    def __init__(self, feed: Feed, follower: Follower, is_revoked: Callable[[], Awaitable[bool]]) -> None:
        self.status_code, self.background = 200, None
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._feed, self._follower, self._is_revoked = feed, follower, is_revoked
        self._news = News()
        """Something happened, to the account or to the connection."""
        self._has_left = self._beats = False
        self._turn: asyncio.Task[Turn] | None = None
        self._sending_since: float | None = None

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        self._receive, self._send_now, self._clock, self._call_later = receive, send, loop.time, loop.call_later
        first_beat = HEARTBEAT_S * uniform(0.2, 1)  # noqa: S311 -- who came together shall not beat together
        self._feed.followers += 1
        self._timer = self._call_later(first_beat, self._tick)
        tasks: list[asyncio.Task[Any]] = []
        try:
            await self._send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            # This task is some twenty calls deep in the application, all of which each waking would go through.
            telling, leaving = asyncio.create_task(self._tell()), asyncio.create_task(self._notice_leaving())
            tasks += telling, leaving
            with self._follower.listening(self._news):
                last_words = await telling
            await self._write(last_words, more=False)
        finally:
            self._feed.followers -= 1
            self._timer.cancel()
            tasks += [] if self._turn is None else [self._turn]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _tell(self) -> bytes:
        """What happens, until that can no longer be told. Returns the last words."""
        await self._write(b"retry: 1000\n: from here on\nid: %b\n\n" % self._last_id())
        while not self._has_left:
            try:
                behind = self._follower.behind
                frames = await self._caught_up() if behind else self._follower.take_frames()
            except (CutOff, FeedClosed, SubscriberBroken) as error:
                return _said("cut-off", _CUT_OFF[type(error)])
            except (CursorRefused, GapInChanges) as error:
                return _said("problem", why(error))
            if self._beats:  # however much or little there is to tell
                self._beats = False
                if await self._is_revoked():
                    return _said("problem", "The API key was revoked.")
                # An id without data moves the reader's cursor on, and shows it nothing.
                frames += b": heartbeat\nid: %b\n\n" % self._last_id()
            if frames:
                await self._write(frames)
            elif not behind:
                await self._news.wait()
        return b""

    async def _caught_up(self) -> bytes:
        """What a turn of catching up found; nothing yet, where a heartbeat is due before others' turns have passed."""
        if self._turn is None:
            self._turn = asyncio.create_task(self._follower.read_turn())
            self._turn.add_done_callback(lambda _: self._news.tell())
        if not self._turn.done():
            await self._news.wait()
        if not self._turn.done():
            return b""
        turn, self._turn = self._turn, None
        return b"".join(frame_of(value, after) for value, after in self._follower.go_on(turn.result()))

    def _last_id(self) -> bytes:
        return str(self._follower.cursor).encode()

    async def _write(self, text: bytes, *, more: bool = True) -> None:
        await self._send({"type": "http.response.body", "body": text, "more_body": more})

    async def _send(self, message: Message) -> None:
        self._sending_since = self._clock()
        await self._send_now(message)
        self._sending_since = None

    async def _notice_leaving(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._has_left = True
        self._news.tell()

    def _tick(self) -> None:
        """A heartbeat is due; or, where the connection takes nothing, its end."""
        taken_nothing_for = 0.0 if self._sending_since is None else self._clock() - self._sending_since
        if taken_nothing_for >= STALLED_AFTER_S:
            log.info("a follower of changes took nothing for %g s; its connection was ended", STALLED_AFTER_S)
            # ASGI knows no way to drop what lies in buffers; uvicorn's cycle, whose method `receive` is, knows one.
            self._receive.__self__.transport.abort()  # type: ignore[attr-defined]
            return
        self._beats = True
        self._news.tell()
        self._timer = self._call_later(min(HEARTBEAT_S, STALLED_AFTER_S - taken_nothing_for), self._tick)


_CUT_OFF = {
    CutOff: "What comes next is no longer in this gateway's memory; go on from the last id.",
    FeedClosed: "This gateway ends; go on from the last id.",
    SubscriberBroken: "The broker is not there at the moment; go on from the last id.",
}


def why(error: CursorRefused | GapInChanges) -> str:
    """A gap's own sentence may name what belongs to another account."""
    if isinstance(error, CursorRefused):
        return str(error)
    log.warning("behind a follower's cursor: %s", error)
    return "The log does not go on behind this cursor. Read the settings anew, and go on from their answer's cursor."


def _said(event: str, sentence: str) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event.encode(), to_json({"detail": sentence}))

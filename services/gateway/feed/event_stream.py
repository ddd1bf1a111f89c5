"""Changes as server-sent events on one connection.

There may be thousands of connections, and each event goes to many. So a connection has one task that sends, which is
woken once for all new events, and no timer but its heartbeat.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from random import uniform
from typing import Any

import structlog
from fastapi.responses import Response
from pydantic_core import to_json
from starlette.types import Message, Receive, Scope, Send

from contracts.cursor import InvalidCursor, SequenceGap
from contracts.kafka.subscriber import SubscriberError
from services.gateway.feed.caught_up import CatchUpBatch
from services.gateway.feed.event_buffer import MAX_BATCH_BYTES, CutOff, FeedClosed, Signal, frame_of
from services.gateway.feed.feed import Feed
from services.gateway.feed.follower import Follower
from services.gateway.unread_answers import send_until_taken
from services.infrastructure.library_internals.uvicorn import abort_connection

log = structlog.stdlib.get_logger(__name__)

HEARTBEAT_S = 15.0
STALLED_AFTER_S = 30.0
"""A connection that reads nothing for this long is aborted."""
_ROOM_CHECK_S = 0.5


class EventStream(Response):
    """The response. It ends with an event that names the reason; a reader that reconnects with its last id misses none.

    While it goes on it holds ``place``. ``revocation`` calls what it is given once the request's key is revoked.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        feed: Feed,
        follower: Follower,
        place: AbstractContextManager[None],
        revocation: Callable[[Callable[[], None]], AbstractContextManager[None]],
    ) -> None:
        self.status_code, self.background = 200, None
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._feed, self._follower = feed, follower
        self._place, self._revocation, self._revoked = place, revocation, False
        self._signal = Signal()
        """Set when the account has new events, or something happens to the connection."""
        self._disconnected = self._heartbeat_due = False
        self._catch_up: asyncio.Task[CatchUpBatch] | None = None
        self._sending_since: float | None = None
        self._retry: asyncio.TimerHandle | None = None

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        with self._place, self._revocation(self._on_revoked):
            await self._serve(receive, send)

    async def _serve(self, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        self._receive, self._asgi_send, self._clock, self._call_later = receive, send, loop.time, loop.call_later
        first_heartbeat = HEARTBEAT_S * uniform(0.2, 1)  # noqa: S311 -- spreads those that connected together
        self._feed.open_streams += 1
        self._timer = self._call_later(first_heartbeat, self._on_timer)
        tasks: list[asyncio.Task[Any]] = []
        try:
            await self._send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            # A task of its own: this one is some twenty calls deep in the application, and every wake-up would go
            # through all of them.
            sending = asyncio.create_task(self._send_changes())
            watching = asyncio.create_task(self._watch_disconnect())
            tasks += sending, watching
            with self._follower.notifying(self._signal):
                last_event = await sending
            await self._write(last_event, more=False)
        finally:
            self._feed.open_streams -= 1
            self._timer.cancel()
            if self._retry is not None:
                self._retry.cancel()
            tasks += [] if self._catch_up is None else [self._catch_up]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send_changes(self) -> bytes:
        """Sends changes and heartbeats until the stream must end. Returns the event that names the reason."""
        await self._write(b"retry: 1000\n: from here on\nid: %b\n\n" % self._last_id())
        while not self._disconnected:
            if self._revoked:
                return _final_event("problem", "The API key is not valid any more.")
            try:
                is_behind = self._follower.is_behind
                frames = b""
                if self._has_room():
                    frames = await self._catch_up_frames() if is_behind else self._follower.read_frames()
            except (CutOff, FeedClosed, SubscriberError) as error:
                log.debug("follower cut off", account=self._follower.account, reason=type(error).__name__)
                return _final_event("cut-off", _CUT_OFF[type(error)])
            except (InvalidCursor, SequenceGap) as error:
                return _final_event("problem", cursor_problem(error, self._follower.account))
            if self._heartbeat_due:  # even while there is a lot to send
                self._heartbeat_due = False
                # An id without data advances the reader's cursor without giving it an event.
                frames += b": heartbeat\nid: %b\n\n" % self._last_id()
            if frames:
                await self._write(frames)
            elif not is_behind or not self._has_room():
                await self._signal.wait()
        return b""

    async def _catch_up_frames(self) -> bytes:
        """Returns what a turn of catching up found; nothing if a heartbeat is due before the turn has ended."""
        if self._catch_up is None:
            self._catch_up = asyncio.create_task(self._follower.read_catch_up_batch())
            self._catch_up.add_done_callback(lambda _: self._signal.set())
        if not self._catch_up.done():
            await self._signal.wait()
        if not self._catch_up.done() or not self._has_room():
            return b""
        catch_up, self._catch_up = self._catch_up, None
        return b"".join(frame_of(value, after) for value, after in self._follower.advance(catch_up.result()))

    def _last_id(self) -> bytes:
        return str(self._follower.cursor).encode()

    def _has_room(self) -> bool:
        """Whether the account's clients have taken enough of what they were sent. If not, the stream tries again."""
        has_room = self._feed.unread.fits(self._follower.account or "", MAX_BATCH_BYTES)
        if not has_room and self._retry is None:
            self._retry = self._call_later(_ROOM_CHECK_S, self._try_again)
        return has_room

    def _try_again(self) -> None:
        self._retry = None
        self._signal.set()

    async def _write(self, text: bytes, *, more: bool = True) -> None:
        account = self._follower.account or ""
        self._feed.unread.take(account, len(text))
        try:
            await self._send({"type": "http.response.body", "body": text, "more_body": more})
        finally:
            self._feed.unread.give_back(account, len(text))

    async def _send(self, message: Message) -> None:
        self._sending_since = self._clock()
        await send_until_taken(self._asgi_send, message)
        self._sending_since = None

    async def _watch_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._disconnected = True
        self._signal.set()

    def _on_revoked(self) -> None:
        self._revoked = True
        self._signal.set()

    def _on_timer(self) -> None:
        """Makes a heartbeat due, or aborts the connection if it is stalled."""
        stalled_for = 0.0 if self._sending_since is None else self._clock() - self._sending_since
        if stalled_for >= STALLED_AFTER_S:
            log.info("stalled follower aborted", account=self._follower.account, stalled_for_s=round(stalled_for, 1))
            abort_connection(self._receive)
            return
        self._heartbeat_due = True
        self._signal.set()
        self._timer = self._call_later(min(HEARTBEAT_S, STALLED_AFTER_S - stalled_for), self._on_timer)


_CUT_OFF = {
    CutOff: "The next changes are no longer in this gateway's memory; reconnect with the last id.",
    FeedClosed: "This gateway is stopping; reconnect with the last id.",
    SubscriberError: "The broker is unavailable at the moment; reconnect with the last id.",
}


def cursor_problem(error: InvalidCursor | SequenceGap, account: str | None) -> str:
    """Returns a sentence for the reader. A gap's own sentence may name what belongs to another account."""
    if isinstance(error, InvalidCursor):
        return str(error)
    log.warning("gap in the log after a follower's cursor", account=account, reason=str(error))
    return "The log is not continuous after this cursor. Read the settings again, and continue with their cursor."


def _final_event(event: str, sentence: str) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event.encode(), to_json({"detail": sentence}))

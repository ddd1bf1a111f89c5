"""Changes as they happen: server-sent events that tell a page which part of a channel to read again."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Header
from pydantic_core import from_json, to_json
from starlette.responses import Response

from contracts.cursor import Cursor, EventFilter, InvalidCursor
from services.gateway.authentication.revocations import Revocations
from services.gateway.console.console_request import Console
from services.gateway.console.routing import ConsoleRoute
from services.gateway.feed.caught_up import CatchUpBatch, ReadResult
from services.gateway.feed.event_stream import EventStream
from services.gateway.feed.follower import Follower
from services.gateway.limits import Places
from services.gateway.problems import Problem
from services.gateway.requests import feed_of

router = APIRouter(route_class=ConsoleRoute)


class _PartsFollower(Follower):
    """Tells the part that changed instead of the whole event, as the name of a server-sent event."""

    def read_frames(self) -> bytes:
        return b"".join(_frame(value, after) for value, after in self.read())

    def advance(self, batch: CatchUpBatch) -> ReadResult:
        """Every part is to be read again after a pause, so what changed in it need not be told."""
        super().advance(batch)
        return [(b"{}", batch.after)] if batch.changes else []


def _frame(value: bytes, after: Cursor) -> bytes:
    event = from_json(value)
    part = str(event["resource"]).split("/")[0]
    data = to_json({"version": event["sequence"], "resource": event["resource"], "channel": event["subject"]})
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (str(after).encode(), part.encode(), data)


@router.get("/events")
async def events(
    console: Console, channel: str | None = None, cursor: str | None = None, last_event_id: str | None = Header(None)
) -> Response:
    """Follows one channel, or all that the session may see."""
    request, feed = console.request, feed_of(console.request)
    given = last_event_id or cursor
    try:
        since = Cursor.parse(given) if given else None
        event_filter = EventFilter.of(console.caller.account, [channel] if channel else [], [], [])
        follower = _PartsFollower(feed, event_filter, since)
        await follower.start()
    except InvalidCursor as error:
        raise Problem(400, "CursorRefused", str(error)) from None
    places: Places = request.app.state.streams
    revocations: Revocations = request.app.state.revocations
    watch = partial(revocations.watch, console.caller.principal, session=console.session)
    return EventStream(feed, follower, places.taken(console.caller.account), watch)

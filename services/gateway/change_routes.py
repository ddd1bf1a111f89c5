"""Changes over HTTP: as server-sent events, or by polling, from the same cursor."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated, Any

from aiokafka.errors import KafkaError
from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response
from pydantic_core import to_json

from contracts.changes import Cursor, CursorRefused, GapInChanges, Wanted
from contracts.commands import EVENTS
from contracts.ids import is_name
from contracts.subscriber import BEGINNING, NOW, SubscriberBroken
from projections import settings_queries
from services.gateway.api_keys import access_of
from services.gateway.event_stream import EventStream, why
from services.gateway.feed import CutOff, Feed, FeedClosed
from services.gateway.follower import Follower
from services.gateway.problems import Problem, channel_unknown
from services.gateway.requests import Authenticated, Caller, cursor_header, pool_of
from services.infrastructure.postgres import OUTAGES

log = logging.getLogger(__name__)
router = APIRouter(prefix="/v1", tags=["changes"])

LONGEST_POLL_S = 30.0
CATCHING_UP_S = 10.0
"""So long a poll reads Kafka at most; its answer then says that there is more, and from where."""

MOST_FOLLOWERS = 5_000
MOST_OF_AN_ACCOUNT = 2_000
MOST_A_POLL = 1_000

_Many = Annotated[list[str] | None, Query(max_length=100)]


def feed_of(request: Request) -> Feed:
    feed: Feed | None = request.app.state.feed
    if feed is None:
        raise Problem(503, "Unavailable", "The broker is not there at the moment; try again shortly.")
    return feed


_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Without `Accept: text/event-stream` a page of changes; with it, changes as they happen.",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "changes": {"type": "array", "items": {"type": "object"}},
                        "cursor": {"type": "string", "description": "to ask with next, also where there was nothing"},
                        "more": {"type": "boolean", "description": "whether there may be more already"},
                    },
                    "required": ["changes", "cursor", "more"],
                }
            },
            "text/event-stream": {
                "schema": {"type": "string"},
                "example": 'id: c2.5a3f12cd.QWRRc2Vw….12-7_5-3\ndata: {"specversion": "1.0", …}\n\n',
            },
        },
    }
}


@router.get("/changes", response_model=None, responses=_ANSWERS)
async def changes(
    request: Request,
    caller: Authenticated,
    cursor: Annotated[str | None, Query(description="as an answer or a change carried it, beginning, or now")] = None,
    account: Annotated[str | None, Query(description="for the platform: one account's changes alone")] = None,
    channel: _Many = None,
    kind: Annotated[list[str] | None, Query(alias="type", max_length=100)] = None,
    resource: _Many = None,
    limit: Annotated[int, Query(ge=1, le=MOST_A_POLL)] = 100,
    wait: Annotated[float, Query(ge=0, le=LONGEST_POLL_S, description="seconds, when polling")] = 0.0,
    accept: Annotated[str, Header()] = "",
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """The events of the account's channels, in order per channel, each once.

    With ``Accept: text/event-stream`` they are sent as they happen; each ``id`` is the cursor behind its event, so that
    a browser's EventSource goes on where it was. Otherwise an answer holds the ``changes`` that there are, at most
    ``limit``, and the ``cursor`` to ask with next; ``wait`` waits for the first. Without a cursor: from now on.
    A ``resource`` stands for itself and what lies below or above it.
    """
    feed = feed_of(request)
    wanted = await _wanted(request, caller, account, channel or [], kind or [], resource or [])
    follower = Follower(feed, wanted, _since(feed, last_event_id or cursor))
    try:
        await follower.start()
    except CursorRefused as error:
        raise _refused(str(error)) from None
    except KafkaError:
        raise _unreadable() from None
    if "text/event-stream" not in accept.lower():
        return await _poll(follower, limit, wait)
    if feed.followers >= MOST_FOLLOWERS or feed.followers_of(wanted.account) > MOST_OF_AN_ACCOUNT:
        raise Problem(503, "TooManyFollowers", "This gateway has all the followers it can take; try again shortly.")
    return EventStream(feed, follower, lambda: _is_revoked(request, caller))


async def _wanted(
    request: Request, caller: Caller, account: str | None, channels: list[str], types: list[str], resources: list[str]
) -> Wanted:
    if account is not None and not is_name(account):
        raise Problem(400, "ParameterInvalid", "'account' is no account id.")
    if caller.account is not None and account not in (None, caller.account):
        raise Problem(403, "Forbidden", "The request is for one account, and follows no other; leave out 'account'.")
    account = caller.account or account
    for kind in types:
        if kind not in EVENTS:
            raise Problem(400, "ParameterInvalid", f"'type' must be of {', '.join(EVENTS)}.")
    for channel in channels:
        known = is_name(channel) and await settings_queries.channel_version(pool_of(request), account, channel)
        if not known:
            raise channel_unknown(channel[:128])
    return Wanted.of(account, channels, types, resources)


def _since(feed: Feed, text: str | None) -> Cursor | None:
    """None is now. Raises `Problem`."""
    if text in (None, NOW):
        return None
    if text == BEGINNING:
        return feed.beginning()
    try:
        return Cursor.parse(text or "")
    except CursorRefused as error:
        raise _refused(str(error)) from None


def _unreadable() -> Problem:
    return Problem(503, "Unavailable", "The log cannot be read at the moment; try again shortly.")


def _refused(sentence: str) -> Problem:
    return Problem(400, "CursorRefused", sentence)


async def _poll(follower: Follower, limit: int, wait: float) -> Response:
    found: list[bytes] = []
    clock = asyncio.get_running_loop().time
    deadline, patience = clock() + wait, clock() + CATCHING_UP_S
    try:
        while True:
            behind = follower.behind
            there = await follower.catch_up() if behind else follower.take()
            for value, after in there:
                found.append(value)
                if len(found) == limit:
                    return _polled(found, after, more=True)
            if behind and clock() > patience:
                return _polled(found, follower.cursor, more=True)
            if there or behind:
                continue
            if found or clock() >= deadline:
                return _polled(found, follower.cursor, more=False)
            await follower.wait(deadline - clock())
    except (CutOff, FeedClosed, SubscriberBroken):
        raise _unreadable() from None
    except (CursorRefused, GapInChanges) as error:
        raise _refused(why(error)) from None


def _polled(values: list[bytes], cursor: Cursor, *, more: bool) -> Response:
    tail = to_json({"cursor": str(cursor), "more": more})[1:]
    body = b'{"changes":[' + b",".join(values) + b"]," + tail
    return Response(body, media_type="application/json", headers=cursor_header(cursor) | {"Cache-Control": "no-store"})


async def _is_revoked(request: Request, caller: Caller) -> bool:
    try:
        return await access_of(pool_of(request), caller.token) is None
    except OUTAGES:
        return False

"""Changes: as server-sent events, or by polling; both continue from the same cursor."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated, Any

from aiokafka.errors import KafkaError
from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response
from pydantic import with_config
from pydantic_core import to_json
from typing_extensions import TypedDict

from contracts.cursor import Cursor, EventFilter, InvalidCursor, SequenceGap
from contracts.envelope import EventEnvelope
from contracts.ids import ID_PATTERN, is_id
from contracts.kafka.subscriber import BEGINNING, NOW, SubscriberError
from contracts.message_types import EVENTS
from contracts.settings import RESOURCE_FORMS, is_resource
from projections.settings import queries as settings_queries
from services.gateway.authentication.caller import Authenticated, Caller
from services.gateway.authentication.revocations import Revocations
from services.gateway.feed.caught_up import ReadResult
from services.gateway.feed.event_buffer import CutOff, FeedClosed
from services.gateway.feed.event_stream import EventStream, cursor_problem
from services.gateway.feed.feed import Feed
from services.gateway.feed.follower import Follower
from services.gateway.limits import Places
from services.gateway.long_polls import long_poll
from services.gateway.problem_types import raises
from services.gateway.problems import Problem, channel_unknown, unavailable
from services.gateway.reads import cursor_header
from services.gateway.requests import feed_of, pool_of, turn_of
from services.infrastructure.fair_queue import Turn

router = APIRouter(prefix="/v1", tags=["Changes"])

MAX_POLL_WAIT_S = 30.0
MAX_CATCH_UP_S = 10.0
"""A poll reads Kafka for at most this long; its response then says that there is more, and from where."""

MAX_POLL_CHANGES = 1_000

_Values = Annotated[list[str] | None, Query(max_length=100)]


@with_config(use_attribute_docstrings=True)
class ChangePage(TypedDict):
    """A page of changes."""

    changes: list[EventEnvelope]
    cursor: str
    """For the next request, also if there were no changes."""

    more: bool
    """Whether there may be more changes already."""


_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Without `Accept: text/event-stream` a page of changes; with it, changes as they happen.",
        "content": {
            "text/event-stream": {
                "schema": {"type": "string"},
                "example": 'id: c2.5a3f12cd.QWRRc2Vw….12-7_5-3\ndata: {"specversion": "1.0", …}\n\n',
            },
        },
    }
}


@router.get("/changes", response_model=ChangePage, responses=_RESPONSES)
@raises("CursorRefused", "TooManyFollowers")
async def changes(
    request: Request,
    caller: Authenticated,
    cursor: Annotated[str | None, Query(description="From a response or a change, or `beginning`, or `now`.")] = None,
    account: Annotated[
        str | None,
        Query(description="For the platform: only this account's changes.", json_schema_extra={"pattern": ID_PATTERN}),
    ] = None,
    channel: _Values = None,
    types: Annotated[
        list[str] | None, Query(alias="type", max_length=100, description="Only events of these types.")
    ] = None,
    resource: Annotated[
        list[str] | None,
        Query(max_length=100, description="Only changes of these resources, and of those above and below them."),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_POLL_CHANGES)] = 100,
    wait: Annotated[
        float,
        Query(ge=0, le=MAX_POLL_WAIT_S, description="When polling: seconds to wait for a change."),
    ] = 0.0,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
    last_event_id: Annotated[
        str | None, Header(alias="Last-Event-ID", description="The `id` of a change: resumes after it.")
    ] = None,
) -> Response:
    """Returns the events of the account's channels, in order per channel, each once.

    With ``Accept: text/event-stream`` they are sent as they happen. Each ``id`` is the cursor after its event, so a
    browser's EventSource continues where it was: `Last-Event-ID` resumes after it. Otherwise a response holds the
    ``changes`` that there are, at most ``limit``, and the ``cursor`` for the next request; ``wait`` waits for the first
    change. Without a cursor: from now on. A ``resource`` matches itself and all resources above and below it.
    """
    feed = feed_of(request)
    event_filter = await _event_filter(request, caller, account, channel or [], types or [], resource or [])
    follower = Follower(feed, event_filter, _since(feed, last_event_id or cursor))
    try:
        await follower.start()
    except InvalidCursor as error:
        raise _invalid_cursor(str(error)) from None
    except KafkaError:
        raise unavailable("log") from None
    if "text/event-stream" not in accept.lower():
        async with long_poll(request, caller):
            return await _poll(follower, turn_of(request), limit, wait)
    places: Places = request.app.state.streams
    revocations: Revocations = request.app.state.revocations
    return EventStream(feed, follower, places.taken(caller.account), partial(revocations.watch, caller.principal))


async def _event_filter(
    request: Request, caller: Caller, account: str | None, channels: list[str], types: list[str], resources: list[str]
) -> EventFilter:
    if account is not None and not is_id(account):
        raise Problem(400, "ParameterInvalid", "'account' is not an account id.")
    if caller.account is not None and account not in (None, caller.account):
        raise Problem(
            403, "Forbidden", "The request is for one account and cannot follow another; leave out 'account'."
        )
    account = caller.account or account
    for event_type in types:
        if event_type not in EVENTS:
            raise Problem(400, "ParameterInvalid", f"'type' must be one of {', '.join(EVENTS)}.")
    for resource in resources:
        if not is_resource(resource):
            raise Problem(400, "ParameterInvalid", f"'resource' must be one of {', '.join(RESOURCE_FORMS)}.")
    for channel in channels:
        version = is_id(channel) and await settings_queries.channel_version(pool_of(request), account, channel)
        if not version:
            raise channel_unknown(channel[:128])
    return EventFilter.of(account, channels, types, resources)


def _since(feed: Feed, text: str | None) -> Cursor | None:
    """Parses a cursor; None means now. Raises `Problem`."""
    if text in (None, NOW):
        return None
    if text == BEGINNING:
        return feed.beginning()
    try:
        return Cursor.parse(text or "")
    except InvalidCursor as error:
        raise _invalid_cursor(str(error)) from None


def _invalid_cursor(sentence: str) -> Problem:
    return Problem(400, "CursorRefused", sentence)


async def _poll(follower: Follower, turn: Turn, limit: int, wait: float) -> Response:
    found: list[bytes] = []
    clock = asyncio.get_running_loop().time
    deadline, catch_up_deadline = clock() + wait, clock() + MAX_CATCH_UP_S
    try:
        while True:
            is_behind = follower.is_behind
            changes = await _catch_up(follower, turn) if is_behind else follower.read()
            for value, after in changes:
                found.append(value)
                if len(found) == limit:
                    return _page(found, after, more=True)
            if is_behind and clock() > catch_up_deadline:
                return _page(found, follower.cursor, more=True)
            if changes or is_behind:
                continue
            if found or clock() >= deadline:
                return _page(found, follower.cursor, more=False)
            async with turn.paused():
                await follower.wait(deadline - clock())
    except (CutOff, FeedClosed, SubscriberError):
        raise unavailable("log") from None
    except (InvalidCursor, SequenceGap) as error:
        raise _invalid_cursor(cursor_problem(error, follower.account)) from None


async def _catch_up(follower: Follower, turn: Turn) -> ReadResult:
    async with turn.paused():  # Kafka is read in turns of its own
        return await follower.catch_up()


def _page(values: list[bytes], cursor: Cursor, *, more: bool) -> Response:
    tail = to_json({"cursor": str(cursor), "more": more})[1:]
    body = b'{"changes":[' + b",".join(values) + b"]," + tail
    return Response(body, media_type="application/json", headers=cursor_header(cursor) | {"Cache-Control": "no-store"})

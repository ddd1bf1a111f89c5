"""What became of a command or a request, step by step, out of the records that are kept anyway."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from fastapi import APIRouter
from starlette.responses import Response

from contracts.message import rfc3339, unix_milliseconds
from projections.history import queries as history_queries
from services.gateway.console.channel_view import channel_view
from services.gateway.console.console_request import Console
from services.gateway.console.routing import ConsoleRoute
from services.gateway.problems import Problem
from services.gateway.requests import pool_of
from services.invoker import delivery_log

_MOST_STEPS = 200
DELIVERIES_PAGE = "GET /console/channels/{channel}/deliveries"

router = APIRouter(route_class=ConsoleRoute)


@dataclass(frozen=True, slots=True)
class Step:
    """``kind`` is ``sent``, ``entry`` (of the history), ``asked`` (for a call), ``attempt`` or ``ended``."""

    kind: str
    at: str
    about: dict[str, Any]
    after_ms: int | None = None
    """Since the first step."""


@router.get("/channels/{channel}/traces/{request_id}")
async def trace(console: Console, channel: str, request_id: str) -> Response:
    view = await channel_view(console, channel, "history")
    account, pool = view["settings"].account, pool_of(console.request)
    entries = await history_queries.find_about(pool, account, channel, request_id, _MOST_STEPS)
    calls: list[dict[str, Any]] = []
    if console.may(DELIVERIES_PAGE):
        chosen = delivery_log.DeliveryFilter(account, channel, about=request_id)
        calls = await delivery_log.list_deliveries(pool, chosen, _MOST_STEPS)
    if not entries and not calls:
        raise Problem(404, "RequestUnknown", f"The channel's records have nothing of {request_id[:128]!r}.")
    return console.page("trace.html", request_id=request_id, steps=steps(request_id, entries, calls), **view)


def steps(request_id: str, entries: list[dict[str, Any]], calls: list[dict[str, Any]]) -> list[Step]:
    """In order. An id that we made has the time when it was made: before that, nobody had sent it."""
    found = [Step("entry", entry["time"], entry) for entry in entries]
    for call in calls:
        found.append(Step("asked", call["created_at"], call))
        found += [Step("attempt", attempt["started_at"], attempt | {"call": call}) for attempt in call["attempt_log"]]
        if call["ended_at"] is not None:
            found.append(Step("ended", call["ended_at"], call))
    if (made := _time_in(request_id)) is not None:
        found.append(Step("sent", made, {}))
    order = {"sent": 0, "entry": 1, "asked": 2, "attempt": 3, "ended": 4}
    found.sort(key=lambda step: (unix_milliseconds(step.at), order[step.kind], step.about.get("version", 0)))
    first = unix_milliseconds(found[0].at)
    return [Step(step.kind, step.at, step.about, unix_milliseconds(step.at) - first) for step in found]


def _time_in(request_id: str) -> str | None:
    """When a UUID of version 7 was made (RFC 3339). None for anything else, also a time that no calendar has."""
    try:
        uuid = UUID(request_id)
        return rfc3339(uuid.int >> 80) if uuid.version == 7 else None
    except (ValueError, OverflowError):
        return None

"""Usage: what is charged, by day, as JSON or CSV."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic_core import to_json

from services.gateway.authentication.caller import Authenticated
from services.gateway.content_negotiation import preferred
from services.gateway.problem_types import raises
from services.gateway.problems import Problem
from services.gateway.requests import in_turns, pool_of, turn_of
from services.message_router.message_schemas import UsageReport
from services.message_router.usage_report import UsagePeriod, csv_lines, usage_pages

router = APIRouter(prefix="/v1", tags=["Usage"])

MAX_DAYS = 400
"""As long as usage is on its topic."""

_JSON, _CSV = "application/json", "text/csv"
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A row for each day, channel, country and fee class. A charge that came after its day was over "
        "is booked on the day on which it came, in a row of its own that names its day in `correction_of`.",
        "content": {
            _CSV: {"schema": {"type": "string"}, "example": csv_lines()},
        },
    }
}


@router.get("/usage", response_model=UsageReport, responses=_RESPONSES)
@raises("NotAcceptable")
async def usage(
    request: Request,
    caller: Authenticated,
    first: Annotated[date | None, Query(alias="from", description="A UTC day; default: this month's first.")] = None,
    last: Annotated[date | None, Query(alias="to", description="A UTC day, included; default: today.")] = None,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> Response:
    """Reports what the account's messages are charged, by the days on which it was booked. For the platform without
    Switchboard-Account: of all accounts. With `Accept: text/csv` as CSV."""
    media_type = preferred(accept, (_JSON, _CSV))
    if media_type is None:
        raise Problem(406, "NotAcceptable", f"Usage comes as {_JSON} or {_CSV}.")
    today = datetime.fromtimestamp(request.app.state.now() / 1000, UTC).date()
    last = last or today
    first = first or last.replace(day=1)
    if not timedelta() <= last - first < timedelta(MAX_DAYS):
        detail = f"'from' must be a day before 'to' or the same, and both within {MAX_DAYS} days."
        raise Problem(400, "ParameterInvalid", detail)
    pages = usage_pages(pool_of(request), UsagePeriod(first, last, caller.account))
    turn = turn_of(request)
    text = in_turns(turn, _csv(pages)) if media_type == _CSV else in_turns(turn, _json(pages))
    return StreamingResponse(text, media_type=media_type, headers={"Vary": "Accept"})


async def _csv(pages: AsyncIterator[list[dict[str, Any]]]) -> AsyncIterator[str]:
    yield csv_lines()
    async for rows in pages:
        yield csv_lines(rows)


async def _json(pages: AsyncIterator[list[dict[str, Any]]]) -> AsyncIterator[bytes]:
    separator = b'{"usage":['
    async for rows in pages:
        yield separator + to_json(rows)[1:-1]
        separator = b","
    yield b"]}" if separator == b"," else separator + b"]}"

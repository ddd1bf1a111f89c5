"""Usage: what the account's messages are charged, by country and day."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from fastapi import APIRouter, Query
from starlette.responses import Response

from services.gateway.console.catalogue import _
from services.gateway.console.console_request import Console
from services.gateway.console.routing import ConsoleRoute
from services.gateway.console.usage_chart import HEIGHT, WIDTH, usage_chart
from services.gateway.problems import Problem
from services.gateway.requests import pool_of
from services.message_router.usage_report import UsagePeriod, usage_by_country

MAX_DAYS = 92
"""More are too narrow to be seen."""

router = APIRouter(route_class=ConsoleRoute)


@router.get("/usage")
async def usage(console: Console, first: str = Query("", alias="from"), last: str = Query("", alias="to")) -> Response:
    """The days are of UTC, both included; without them, this month's until today."""
    today = datetime.fromtimestamp(console.request.app.state.now() / 1000, UTC).date()
    try:
        until = date.fromisoformat(last) if last else today
        since = date.fromisoformat(first) if first else until.replace(day=1)
    except ValueError:
        raise Problem(400, "ParameterInvalid", _("A day is written like 2026-11-22.")) from None
    wrong = not timedelta() <= until - since < timedelta(MAX_DAYS)
    if wrong:
        since = until
    found = await usage_by_country(pool_of(console.request), UsagePeriod(since, until, console.caller.account))
    return console.page(
        "usage.html",
        422 if wrong else 200,
        chart=usage_chart(found, since, until),
        first=first if wrong else since.isoformat(),
        last=until.isoformat(),
        shown=(since, until),
        size=(WIDTH, HEIGHT),
        refused=_("Choose two days, the first not after the last, and at most 92 days.") if wrong else "",
    )

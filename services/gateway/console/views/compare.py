"""Any two moments of a channel compared, and a slider through its versions."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from services.audit.log.source import Log
from services.audit.timeline.diff import diff_report
from services.audit.timeline.settings_at import channel_at, parse_moment
from services.gateway.console.channel_view import channel_view
from services.gateway.console.console_request import Console
from services.gateway.console.rendering import pretty
from services.gateway.console.routing import ConsoleRoute
from services.gateway.log_reads import read_log
from services.gateway.problems import Problem
from services.gateway.routes.audit import require_comparable

VIEW = "compare"

router = APIRouter(route_class=ConsoleRoute)


@router.get(f"/channels/{{channel}}/{VIEW}")
async def compare(
    console: Console, channel: str, before: str = Query("", alias="from"), after: str = Query("", alias="to")
) -> Response:
    """``from`` and ``to`` are versions, instants, days or ``now``; by default the newest version and the one before."""
    view = await channel_view(console, channel, VIEW)
    newest = view["settings"].version
    moments = before.strip() or str(max(newest - 1, 1)), after.strip() or str(newest)
    status = 200
    values: dict[str, Any] = {"words": [], "settings_text": "", "rests_on": (None, None), "refused": ""}
    try:
        values |= await _compared(console, channel, moments)
    except Problem as problem:
        if problem.status >= 500:
            raise
        status, values["refused"] = 422, problem.detail
    return console.page("compare.html", status, moments=moments, newest=newest, **values, **view)


async def _compared(console: Console, channel: str, moments: tuple[str, str]) -> dict[str, Any]:
    now = console.request.app.state.now()

    async def query(log: Log) -> dict[str, Any]:
        earlier, later = await channel_at(log, channel, [parse_moment(one) for one in moments], now)
        require_comparable(earlier, later)
        shown = None if later.settings is None else later.settings.model_dump(mode="json", by_alias=True)
        ends = [one.as_json()["rests_on"] for one in (earlier, later)]
        return {
            "words": diff_report(earlier, later)["words"],
            "settings_text": "" if shown is None else pretty(shown),
            "rests_on": tuple(None if end is None else end["time"] for end in ends),
        }

    return await read_log(console.request, console.caller, query)

"""The command palette: every view and channel that the person may see, found by name."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from contracts.ids import is_id
from projections.settings import queries as settings_queries
from projections.settings.queries import ChannelSearch
from services.gateway.console.catalogue import _
from services.gateway.console.console_request import Console, ConsoleRequest
from services.gateway.console.rendering import url
from services.gateway.console.routing import ConsoleRoute
from services.gateway.requests import pool_of

MAX_CHANNELS = 8
_CHANNEL_VIEWS = {
    "service-settings": (_("Service Settings"), "GET"),
    "service-settings/open-business-system": (_("Open Business System"), "POST"),
    "deliveries": (_("Deliveries"), "GET"),
    "messages": (_("Messages"), "GET"),
    "proposed-changes": (_("Proposed Changes"), "GET"),
    "history": (_("History"), "GET"),
    "compare": (_("Compare"), "GET"),
}
"""Path below the channel -> its name, and the method that the person has to be allowed."""

_VIEWS = {
    "channels": _("Channel Management"),
    "customers": _("Customer Management"),
    "history": _("History of the account"),
    "usage": _("Usage"),
    "api-keys": _("API Keys"),
    "health": _("Health"),
}

router = APIRouter(route_class=ConsoleRoute)


@router.get("/palette")
async def palette(console: Console, q: str = "", channel: str = "") -> Response:
    """``channel`` is the one whose page the palette was opened on: its views come first."""
    channel = channel if is_id(channel) else ""
    own = [
        (text, channel, url("channels", channel, *path.split("/")))
        for path, (text, method) in _CHANNEL_VIEWS.items()
        if channel and console.may(f"{method} /console/channels/{{channel}}/{path}")
    ]
    views = [(text, "", url(path)) for path, text in _VIEWS.items() if _is_offered(console, path)]
    found = [one for one in own + views if q.strip().lower() in one[0].lower()]
    found += await _channels(console, q.strip())
    return console.page("palette.html", settings=None, view=None, q=q, channel=channel, found=found)


def _is_offered(console: ConsoleRequest, path: str) -> bool:
    """A provider manages customers where everybody else manages channels."""
    other = "channels" if console.caller.scope.kind == "provider" else "customers"
    return path != other and console.may(f"GET /console/{path}")


async def _channels(console: ConsoleRequest, search: str) -> list[tuple[str, str, str]]:
    if console.caller.is_narrow:
        return []
    sought = ChannelSearch(console.caller.account, search, "")
    async with pool_of(console.request).acquire() as connection:
        channels = await settings_queries.search_channels(connection, sought, "", MAX_CHANNELS)
    return [(one.name, one.channel, url("channels", one.channel, "service-settings")) for one in channels]

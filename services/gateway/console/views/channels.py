"""Channel Management: the account's channels, searched, filtered and by page; and one channel's details."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import RedirectResponse, Response

from projections.settings import queries as settings_queries
from projections.settings.queries import ChannelSearch
from services.gateway.console.channel_view import channel_view
from services.gateway.console.console_request import Console
from services.gateway.console.rendering import CHANNEL_TYPES, url
from services.gateway.console.routing import ConsoleRoute
from services.gateway.reads import snapshot_cursor
from services.gateway.requests import pool_of

PAGE = 25

router = APIRouter(route_class=ConsoleRoute)


@router.get("/channels")
async def channel_management(console: Console, search: str = "", type: str = "", after: str = "") -> Response:  # noqa: A002 -- the query's name
    scope = console.caller.scope
    if scope.kind == "provider":
        return RedirectResponse(url("customers"), 303)
    sought = ChannelSearch(console.caller.account, search.strip(), type if type in CHANNEL_TYPES else "")
    async with pool_of(console.request).acquire() as connection, connection.transaction(isolation="repeatable_read"):
        if scope.kind == "channel":
            channels = await settings_queries.list_channels(
                connection, console.caller.account, after, PAGE + 1, channel=scope.channel
            )
        else:
            channels = await settings_queries.search_channels(connection, sought, after, PAGE + 1)
        cursor = await snapshot_cursor(console.request, connection)
    values: dict[str, Any] = {"channels": channels[:PAGE], "search": search, "type": type, "after": after}
    following = channels[PAGE - 1].channel if len(channels) > PAGE else None
    return console.page("channels.html", following=following, cursor=cursor, **values)


@router.get("/channels/{channel}")
async def channel_details(console: Console, channel: str) -> Response:
    return console.page("channel.html", **await channel_view(console, channel, "details"))

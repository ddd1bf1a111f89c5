"""Channels: list, show, register, edit, retire."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from contracts.channel import EditChannel, RegisterChannel, RetireChannel
from projections.settings import queries as settings_queries
from projections.settings.schemas import Channel, ChannelPage
from services.gateway.authentication.caller import Authenticated, Caller
from services.gateway.commands import CommandRequest, command_response, command_route
from services.gateway.problem_types import raises
from services.gateway.problems import Problem
from services.gateway.reads import ConditionalRead, snapshot_cursor
from services.gateway.requests import pool_of

router = APIRouter(prefix="/v1/channels", tags=["Channels"])

_PLATFORM_FIELDS = {"home_country", "international_rates_from", "provider"}
"""Facts about the business that the platform around us states, and no account about itself."""
_FIELDS = set(Channel.__annotations__)


@router.get("", response_model=ChannelPage)
async def list_channels(
    request: Request, caller: Authenticated, after: str = "", limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> dict[str, Any]:
    """Lists the channels of the account, or of the caller's scope, by id, one page at a time; continue with ``after``.

    Changes continue after ``cursor``. With several pages, use the first page's cursor; compare versions to skip what a
    later page already shows.
    """
    async with pool_of(request).acquire() as connection, connection.transaction(isolation="repeatable_read"):
        channels = await settings_queries.list_channels(
            connection, caller.account, after, limit, channel=caller.scope.channel, provider=caller.scope.provider
        )
        cursor = await snapshot_cursor(request, connection)
    return {
        "channels": [channel.model_dump(include=_FIELDS) for channel in channels],
        "next": channels[-1].channel if len(channels) == limit else None,
        "cursor": None if cursor is None else str(cursor),
    }


@router.get("/{channel}", response_model=Channel)
async def get_channel(read: ConditionalRead) -> Response:
    """Shows a channel without its settings."""
    found = await read.settings()
    return read.respond(found.settings.model_dump(include=_FIELDS), found.headers("channel"))


@router.put("/{channel}", **command_route(RegisterChannel, status=201))
@raises("TooManyChannels")
async def register_channel(command: CommandRequest) -> JSONResponse:
    """Registers a channel. Only the platform may; it names the account in ``Switchboard-Account``."""
    account, quota = command.caller.required_account(), command.request.app.state.limits.channels_per_account
    if not await settings_queries.has_room_for_channel(pool_of(command.request), account, command.channel, quota):
        detail = f"An account may have {quota:,} channels; retire one first."
        raise Problem(409, "TooManyChannels", detail, quota=quota)
    return command_response(await command.send("RegisterChannel", await command.body()), 201)


@router.patch("/{channel}", **command_route(EditChannel))
async def edit_channel(command: CommandRequest) -> JSONResponse:
    """Changes the channel's name; the platform also its provider, its home country, and its rates."""
    body = await command.body()
    require_own_fields(command.caller, body.keys())
    return command_response(await command.send("EditChannel", body))


def require_own_fields(caller: Caller, fields: Iterable[str]) -> None:
    """Raises `Problem` where an account changes of a channel what only the platform states."""
    if not caller.is_platform and (stated := sorted(_PLATFORM_FIELDS & set(fields))):
        raise Problem(403, "Forbidden", f"Only the platform changes {' and '.join(stated)}.")


@router.delete("/{channel}", **command_route(RetireChannel))
@raises("ConfirmationMissing")
async def retire_channel(
    command: CommandRequest,
    confirm: Annotated[str | None, Query(description="The channel's id once more; a dry run needs none.")] = None,
) -> JSONResponse:
    """Retires the channel for good: its signatures are deleted, and its settings can only be read from then on."""
    if confirm != command.channel and not command.options.dry_run:
        detail = f"A retired channel never comes back; to retire it, send the request with ?confirm={command.channel}."
        raise Problem(400, "ConfirmationMissing", detail, channel=command.channel)
    return command_response(await command.send("RetireChannel", {}))

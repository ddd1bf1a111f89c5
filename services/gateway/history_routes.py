"""The history over HTTP: every event and rejection, who asked, from where, and what it changed."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from asyncpg import DataError
from fastapi import APIRouter, Query, Request
from pydantic import AwareDatetime

from contracts.ids import is_name
from projections import history, history_queries
from services.gateway.problems import Problem, channel_unknown
from services.gateway.requests import LONGEST_WAIT_S, Authenticated, pool_of, read_settings, snapshot_cursor

router = APIRouter(prefix="/v1", tags=["history"])

_LOOK_EVERY_S = 0.02

Types = Annotated[
    list[str] | None, Query(alias="type", max_length=50, description="of an event, a command or a rejection")
]
Actor = Annotated[str | None, Query(max_length=255)]
Limit = Annotated[int, Query(ge=1, le=1000)]


@router.get("/channels/{channel}/history")
async def channel_history(
    request: Request,
    caller: Authenticated,
    channel: str,
    kind: Types = None,
    actor: Actor = None,
    since: AwareDatetime | None = None,
    until: AwareDatetime | None = None,
    before: str | None = None,
    limit: Limit = 100,
    min_version: Annotated[int | None, Query(ge=0)] = None,
) -> dict[str, Any]:
    """What happened to the channel and what was refused, the newest first; go on with ``before``, and to what happens
    from then on with ``cursor``.

    ``before`` and ``after`` of an entry hold what the event changed, as resource/field.
    """
    if not is_name(channel):
        raise channel_unknown(channel)
    known = await read_settings(request, caller, channel, min_version)
    if min_version is not None:
        await _wait_for(request, channel, min(min_version, known.settings.version))
    sought = history_queries.Sought(known.settings.account, channel, actor, tuple(kind or ()), since, until, before)
    return await _page(request, sought, limit)


@router.get("/history")
async def account_history(
    request: Request,
    caller: Authenticated,
    kind: Types = None,
    actor: Actor = None,
    since: AwareDatetime | None = None,
    until: AwareDatetime | None = None,
    before: str | None = None,
    limit: Limit = 100,
) -> dict[str, Any]:
    """The same for all of the account, what was refused of channels that it does not have included."""
    sought = history_queries.Sought(caller.account, None, actor, tuple(kind or ()), since, until, before)
    return await _page(request, sought, limit)


async def _page(request: Request, sought: history_queries.Sought, limit: int) -> dict[str, Any]:
    async with pool_of(request).acquire() as connection, connection.transaction(isolation="repeatable_read"):
        try:
            entries, following = await history_queries.find(connection, sought, limit)
        except (ValueError, DataError):
            detail = "'before' must be what a page gave as its 'next', and times lie in the years 1 to 9999 of UTC."
            raise Problem(400, "ParameterInvalid", detail) from None
        cursor = await snapshot_cursor(request, connection, history.NAME)
    return {"entries": entries, "next": following, "cursor": None if cursor is None else str(cursor)}


async def _wait_for(request: Request, channel: str, version: int) -> None:
    deadline = asyncio.get_running_loop().time() + LONGEST_WAIT_S
    while not await history_queries.has_version(pool_of(request), channel, version):
        if asyncio.get_running_loop().time() > deadline:
            raise Problem(504, "ReadModelBehind", f"The history has not yet version {version}; try again shortly.")
        await asyncio.sleep(_LOOK_EVERY_S)

"""The history: every event and every rejection, who sent the command, from where, and what it changed."""

from __future__ import annotations

from typing import Annotated

from asyncpg import DataError
from fastapi import APIRouter, Query, Request, Response

from projections import history
from projections.history import queries as history_queries
from projections.history.schemas import HistoryPage
from services.gateway.authentication.caller import Authenticated, Caller
from services.gateway.instant import Instant
from services.gateway.json_documents import document, json_response
from services.gateway.long_polls import polls_of
from services.gateway.problem_types import raises
from services.gateway.problems import Problem
from services.gateway.reads import MinVersion, require_channel, snapshot_cursor, wait_for_version
from services.gateway.requests import pool_of

router = APIRouter(prefix="/v1", tags=["History"])

Types = Annotated[
    list[str] | None,
    Query(alias="type", max_length=50),
]
Actor = Annotated[str | None, Query(max_length=255)]
Limit = Annotated[int, Query(ge=1, le=1000)]


@router.get("/channels/{channel}/history", response_model=HistoryPage)
@raises("ReadModelBehind", "TooManyFollowers")
async def channel_history(
    request: Request,
    caller: Authenticated,
    channel: str,
    types: Types = None,
    actor: Actor = None,
    since: Instant | None = None,
    until: Instant | None = None,
    before: str | None = None,
    limit: Limit = 100,
    min_version: MinVersion = None,
) -> Response:
    """Lists the channel's events and rejections, newest first; continue with `before`.

    Later changes continue after `cursor`. `before` and `after` of an entry hold what the event changed, as
    resource/field.
    """
    account = await account_with_history(request, caller, channel, min_version)
    query = history_queries.Sought(account, channel, actor, tuple(types or ()), since, until, before)
    return await _page(request, query, limit)


@router.get("/history", response_model=HistoryPage)
async def account_history(
    request: Request,
    caller: Authenticated,
    types: Types = None,
    actor: Actor = None,
    since: Instant | None = None,
    until: Instant | None = None,
    before: str | None = None,
    limit: Limit = 100,
) -> Response:
    """Lists the same for the whole account, including rejected commands to channels that it does not have."""
    query = history_queries.Sought(caller.account, None, actor, tuple(types or ()), since, until, before)
    return await _page(request, query, limit)


async def account_with_history(request: Request, caller: Caller, channel: str, min_version: int | None) -> str:
    """Returns the channel's account, once the history has ``min_version``. Raises `Problem`."""
    account, version = await require_channel(request, caller, channel, min_version)
    if min_version is not None:
        version = min(min_version, version)
        if not await wait_for_version(request, caller, polls_of(request).history, (account, channel), version):
            detail = f"The history does not have version {version} yet; try again shortly."
            raise Problem(504, "ReadModelBehind", detail)
    return account


async def _page(request: Request, query: history_queries.Sought, limit: int) -> Response:
    async with pool_of(request).acquire() as connection, connection.transaction(isolation="repeatable_read"):
        try:
            entries, next_page = await history_queries.find(connection, query, limit, document)
        except (ValueError, DataError):
            raise Problem(400, "ParameterInvalid", "'before' must be a previous page's 'next'.") from None
        cursor = await snapshot_cursor(request, connection, history.NAME)
    return json_response({"entries": entries, "next": next_page, "cursor": None if cursor is None else str(cursor)})

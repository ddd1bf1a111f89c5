"""The intent catalogue over HTTP, for those who design message templates."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from projections import catalogue
from services.gateway.problems import Problem
from services.gateway.requests import Authenticated, pool_of, snapshot_cursor

router = APIRouter(prefix="/v1", tags=["intents"])


@router.get("/intents")
async def list_intents(
    request: Request,
    caller: Authenticated,
    channel: Annotated[str | None, Query(max_length=128)] = None,
    code: Annotated[str | None, Query(max_length=64)] = None,
    template: Annotated[str | None, Query(max_length=128, description="those that this template refers to")] = None,
    after: Annotated[str | None, Query(max_length=512, description="the page before's next")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """The intents that a template's buttons can call, with the templates that refer to each.

    Changes go on from ``cursor``; from the first page's, where there are more.
    """
    place = ("", "", "") if after is None else tuple(after.split("/"))
    if len(place) != 3:
        raise Problem(400, "ParameterInvalid", "'after' must be what a page gave as its 'next'.")
    async with pool_of(request).acquire() as connection, connection.transaction(isolation="repeatable_read"):
        found = await catalogue.find(
            connection, caller.account, channel=channel, code=code, template=template, after=place, limit=limit
        )
        cursor = await snapshot_cursor(request, connection, catalogue.NAME)
    last = found[-1] if len(found) == limit else None
    return {
        "intents": found,
        "next": None if last is None else f"{last['channel']}/{last['business_system']}/{last['code']}",
        "cursor": None if cursor is None else str(cursor),
    }

"""The intent catalogue: what a message template's buttons can call."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from projections import catalogue
from projections.catalogue import queries as catalogue_queries
from projections.catalogue.schemas import IntentCatalogue
from services.gateway.authentication.caller import Authenticated
from services.gateway.json_documents import document, json_response
from services.gateway.problems import Problem
from services.gateway.reads import snapshot_cursor
from services.gateway.requests import pool_of

router = APIRouter(prefix="/v1", tags=["Intents"])


@router.get("/intents", response_model=IntentCatalogue)
async def list_intent_catalogue(
    request: Request,
    caller: Authenticated,
    channel: Annotated[str | None, Query(max_length=128)] = None,
    code: Annotated[str | None, Query(max_length=64, description="Only intents with this code.")] = None,
    template: Annotated[str | None, Query(max_length=128, description="Only intents that this template uses.")] = None,
    after: Annotated[str | None, Query(max_length=512)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Response:
    """Lists the intents that a template's buttons can call, each with the templates that refer to it.

    Changes continue after `cursor`. With several pages, use the first page's.
    """
    page_key = ("", "", "") if after is None else tuple(after.split("/"))
    if len(page_key) != 3:
        raise Problem(400, "ParameterInvalid", "'after' must be a previous page's 'next'.")
    async with pool_of(request).acquire() as connection, connection.transaction(isolation="repeatable_read"):
        found = await catalogue_queries.find(
            connection,
            caller.account,
            channel=channel,
            code=code,
            template=template,
            after=page_key,
            limit=limit,
            parse=document,
        )
        cursor = await snapshot_cursor(request, connection, catalogue.NAME)
    last = found[-1] if len(found) == limit else None
    return json_response(
        {
            "intents": found,
            "next": None if last is None else f"{last['channel']}/{last['business_system']}/{last['code']}",
            "cursor": None if cursor is None else str(cursor),
        }
    )

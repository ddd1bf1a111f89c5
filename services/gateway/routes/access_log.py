"""The access log: shown secrets, failed log-ons, denied operations, and changes of API keys."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from contracts.access_log import ACCESS_RECORDS
from services.gateway.authentication.access_log import AccessLogFilter, AccessLogPage, Concerned, list_records
from services.gateway.authentication.caller import Authenticated
from services.gateway.instant import Instant
from services.gateway.requests import pool_of

router = APIRouter(prefix="/v1", tags=["Audit"])

AccessRecordType = StrEnum("AccessRecordType", {name: name for name in ACCESS_RECORDS})  # type: ignore[misc]


@router.get("/access-log", response_model=AccessLogPage)
async def access_log(
    request: Request,
    caller: Authenticated,
    types: Annotated[list[AccessRecordType] | None, Query(alias="type", description="Only of these types.")] = None,
    since: Instant | None = None,
    until: Instant | None = None,
    after: Annotated[int, Query(ge=0, lt=2**63)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> JSONResponse:
    """Lists the records of the caller's scope, oldest first; continue with `after`. For the platform without
    Switchboard-Account: of all accounts, and of nobody's, such as a log-on with an unknown key."""
    scope = caller.scope
    concerned = Concerned(caller.account, scope.channel, scope.provider)
    asked = AccessLogFilter(concerned, tuple(map(str, types or ())), since, until)
    records, following = await list_records(pool_of(request), asked, after, limit)
    return JSONResponse({"records": records, "next": following})  # as published, without nulls

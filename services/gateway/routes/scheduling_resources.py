"""Scheduling resources: the platform reports its pools of sender numbers; an account sees whether a country has one."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from contracts.envelope import validation_message
from contracts.ids import is_id
from contracts.scheduling_resource import ReportSchedulingResource
from services.gateway.authentication.caller import Authenticated
from services.gateway.problem_types import raises
from services.gateway.problems import Problem
from services.gateway.requests import body_schema, json_body, message_router_of, pool_of
from services.message_router import resource_list
from services.message_router.message_schemas import ReportedResource, SchedulingCountries, SchedulingResources

router = APIRouter(prefix="/v1/scheduling-resources", tags=["Scheduling resources"])

_PLATFORM = "platform"
"""Stands for the account on reports: the pools belong to none."""


@router.get(
    "",
    response_model=SchedulingResources | SchedulingCountries,
    response_description="To the platform its resources, to everybody else the countries that have some.",
)
async def list_scheduling_resources(request: Request, caller: Authenticated) -> dict[str, Any]:
    """Lists the resources with the units that are left. To an account, only whether each country has a unit."""
    pool, now = pool_of(request), request.app.state.now()
    if caller.is_platform:
        return {"resources": await resource_list.list_resources(pool, now)}
    return {"countries": await resource_list.states_by_country(pool, now)}


@router.post("", status_code=202, response_model=ReportedResource, openapi_extra=body_schema(ReportSchedulingResource))
async def report_scheduling_resource(request: Request, _: Authenticated) -> JSONResponse:
    """Reports how many units a resource has left. Only the platform may."""
    try:
        report = ReportSchedulingResource.model_validate(await json_body(request, {}))
    except ValidationError as error:
        raise Problem(422, "InvalidCommand", validation_message(error)) from None
    await message_router_of(request).report_resource(report, account=_PLATFORM)
    return JSONResponse({"resource": report.resource}, 202)


@router.delete("/{resource}", status_code=202, response_model=ReportedResource)
@raises("SchedulingResourceUnknown")
async def withdraw_scheduling_resource(request: Request, _: Authenticated, resource: str) -> JSONResponse:
    """Withdraws a resource until it is reported again. Only the platform may."""
    if not is_id(resource):
        raise Problem(404, "SchedulingResourceUnknown", f"There is no scheduling resource {resource[:128]!r}.")
    await message_router_of(request).withdraw_resource(resource)
    return JSONResponse({"resource": resource}, 202)

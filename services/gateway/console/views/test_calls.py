"""A test call of a business system, with its whole exchange."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from contracts.invocation import MakeTestCall
from services.gateway.console.catalogue import _
from services.gateway.console.console_request import Console
from services.gateway.console.forms import Form
from services.gateway.console.routing import ConsoleRoute
from services.gateway.console.views.business_systems import SYSTEMS
from services.gateway.console.views.service_settings import channel_read, service_settings
from services.gateway.problems import Problem
from services.gateway.routes.invocations import TEST_CALL_TIMEOUT_S, request_call

router = APIRouter(route_class=ConsoleRoute)


@router.get(f"{SYSTEMS}/{{system}}/test-call")
async def dialog(console: Console, channel: str, system: str) -> Response:
    read = await channel_read(console, channel)
    found = read.system(system)
    form = Form({"key_id": ""})
    return await service_settings(console, channel, "test_call", read=read, form=form, system=found, delivery=None)


@router.post(f"{SYSTEMS}/{{system}}/test-call")
async def make(console: Console, channel: str, system: str) -> Response:
    read = await channel_read(console, channel)
    found = read.system(system)
    form = Form({"key_id": ""})
    form.submit(console, {"key_id": console.text("key_id")})
    delivery, status = None, 200
    try:
        call = MakeTestCall(system=system, key_id=form.values["key_id"] or None)
        _request, delivery = await request_call(console.command(channel), call, TEST_CALL_TIMEOUT_S)
        if delivery is None or delivery["ended_at"] is None:
            form.errors[""] = _("The test call was not made within %(seconds)g s; see Deliveries.") % {
                "seconds": TEST_CALL_TIMEOUT_S
            }
    except Problem as problem:
        status = form.reject(problem)
    return await service_settings(
        console, channel, "test_call", status, read=read, form=form, system=found, delivery=delivery
    )

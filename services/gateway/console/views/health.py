"""Health: how the platform is, for its people."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from services.gateway.console.catalogue import _
from services.gateway.console.console_request import Console
from services.gateway.console.routing import ConsoleRoute
from services.gateway.routes.health import health

_CONSUMERS = {
    "projector": _("settings"),
    "projector-history": _("history"),
    "projector-catalogue": _("intents"),
    "invoker": _("signed calls"),
    "message-router": _("messages"),
}
_STATES = {
    "waiting": _("wait for settings"),
    "due": _("due"),
    "in_flight": _("being called"),
    "parked": _("wait for a disabled system"),
}
_RESOURCES = {
    "available": (_("available"), "on"),
    "exhausted": (_("used up"), "bad"),
    "stale": (_("report too old"), "warn"),
    "withdrawn": (_("withdrawn"), "off"),
}
"""State -> what it is called, and the class of its colour."""

router = APIRouter(route_class=ConsoleRoute)


@router.get("/health")
async def page(console: Console) -> Response:
    return console.page(
        "health.html",
        settings=None,
        view=None,
        health=await health(console.request),
        consumers=_CONSUMERS,
        states=_STATES,
        resource_states=_RESOURCES,
    )

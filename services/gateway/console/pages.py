"""The console: its views, its files, and its live changes."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from services.gateway.console import live
from services.gateway.console.assets import Assets
from services.gateway.console.routing import ConsoleRoute
from services.gateway.console.views import (
    api_keys,
    approvals,
    business_systems,
    channels,
    compare,
    customers,
    deliveries,
    health,
    history,
    intents,
    issuer_log_on,
    log_on,
    messages,
    palette,
    proposed_changes,
    service_settings,
    signatures,
    spend_guard,
    test_calls,
    traces,
    usage,
)

router = APIRouter(include_in_schema=False, route_class=ConsoleRoute)


@router.get("/")
async def home() -> Response:
    return RedirectResponse(log_on.HOME, 303)


@router.get("/console/icon.svg")
async def icon(request: Request) -> Response:
    assets: Assets = request.app.state.console_assets
    return RedirectResponse(assets.url("icon.svg"), 303)


@router.get("/console/assets/{digest}/{name}")
async def asset(request: Request, digest: str, name: str) -> Response:
    assets: Assets = request.app.state.console_assets
    return assets.response(request, digest, name)


_VIEWS = (
    log_on,
    issuer_log_on,
    live,
    palette,
    channels,
    customers,
    service_settings,
    spend_guard,
    approvals,
    business_systems,
    signatures,
    intents,
    test_calls,
    deliveries,
    messages,
    usage,
    api_keys,
    health,
    proposed_changes,
    compare,
    history,
    traces,
)
for _views in _VIEWS:
    router.include_router(_views.router, prefix="/console")

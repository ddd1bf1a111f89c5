"""Open Business System, and its card's Edit and Delete icons."""

from __future__ import annotations

import re
import secrets
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from services.gateway.authentication.caller import require_allowed
from services.gateway.authentication.operations import OPERATIONS
from services.gateway.console.catalogue import _
from services.gateway.console.changes import changes_since
from services.gateway.console.console_request import Console, ConsoleRequest
from services.gateway.console.forms import Form
from services.gateway.console.proposing import send_or_propose
from services.gateway.console.routing import ConsoleRoute
from services.gateway.console.views.service_settings import PAGE, channel_read, saved, service_settings
from services.gateway.problems import Problem
from services.gateway.reads import ReadSettings
from services.gateway.routes.signatures import send_for_secret

_FIELDS = ("name", "api_request_url", "remarks", "signature_style")
_EMPTY = {"name": "", "api_request_url": "", "remarks": "", "signature_style": "standard-webhooks"}
_SECRET = re.compile(r"whsec_[A-Za-z0-9+/=]{40,60}")
_DRAW_SIGNATURE = "POST /v1/channels/{channel}/business-systems/{system}/signature"
SYSTEMS = f"/channels/{{channel}}/{PAGE}/business-systems"

router = APIRouter(route_class=ConsoleRoute)


@router.get(f"/channels/{{channel}}/{PAGE}/open-business-system")
async def open_dialog(console: Console, channel: str) -> Response:
    form = Form(_EMPTY)
    return await service_settings(console, channel, "open_business_system", form=form, system="", secret_text="")


@router.post(f"/channels/{{channel}}/{PAGE}/open-business-system")
async def open_business_system(console: Console, channel: str) -> Response:
    """Opens the system. With the button Refresh it draws a signature instead, and the dialog stays open."""
    if console.has("refresh"):
        require_allowed(console.caller.principal, OPERATIONS[_DRAW_SIGNATURE])
    form = Form(_EMPTY)
    form.submit(console, _values(console))
    read = await channel_read(console, channel)
    system = console.text("system") or _new_id(form.values["name"], read)
    shown = console.text("signature")
    shown = shown if _SECRET.fullmatch(shown) else ""
    status = 200
    try:
        if console.has("refresh"):
            data = {"system": system, "api_request_url": form.values["api_request_url"]}
            _outcome, opened = await send_for_secret(console.command(channel), "RefreshSignature", _given(data))
            shown = opened or ""
        else:
            data = {"system": system} | form.values
            outcome = await send_or_propose(console, channel, "OpenBusinessSystem", data)
            return await saved(console, channel, outcome, _("The business system is open."))
    except Problem as problem:
        status = form.reject(problem)
    return await service_settings(
        console,
        channel,
        "open_business_system",
        status,
        secret=bool(shown),
        read=read,
        form=form,
        system=system,
        secret_text=shown,
    )


def _given(data: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if value != ""}


def _values(console: ConsoleRequest) -> dict[str, Any]:
    return {name: console.text(name, _EMPTY[name]) for name in _FIELDS}


def _new_id(name: str, read: ReadSettings) -> str:
    """An id that reads like the name, and that no system of the channel has."""
    taken = {system.system for system in read.settings.business_systems}
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-") or "system"
    return words if words not in taken else f"{words}-{secrets.token_hex(3)}"


@router.get(f"{SYSTEMS}/{{system}}/edit")
async def edit_dialog(console: Console, channel: str, system: str) -> Response:
    read = await channel_read(console, channel)
    form = _edit_form(read, system)
    return await service_settings(console, channel, "edit_business_system", read=read, form=form, system=system)


def _edit_form(read: ReadSettings, system: str) -> Form:
    shown = read.system(system).model_dump()
    return Form({name: shown[name] for name in _FIELDS}, read.versions.of(f"business-systems/{system}"))


@router.post(f"{SYSTEMS}/{{system}}/edit")
async def edit_business_system(console: Console, channel: str, system: str) -> Response:
    read = await channel_read(console, channel)
    current = _edit_form(read, system)
    form = Form(current.base, current.version)
    form.submit(console, _values(console))
    status, overtaken = 200, console.has("check") or console.has("take") or console.has("keep")
    if not overtaken:
        try:
            data = {name: value for name, value in form.values.items() if value != form.base[name]}
            edit = {"system": system} | data
            outcome = await send_or_propose(console, channel, "EditBusinessSystem", edit, expected_version=form.version)
            return await saved(console, channel, outcome, _("The business system is saved."))
        except Problem as problem:
            overtaken = problem.name == "VersionConflict"
            status = 412 if overtaken else form.reject(problem)
    if overtaken:
        form.changed_by = await changes_since(console, channel, f"business-systems/{system}", form.version)
        form.merge(current.base, current.version)
    return await service_settings(console, channel, "edit_business_system", status, read=read, form=form, system=system)


@router.get(f"{SYSTEMS}/{{system}}/delete")
async def delete_dialog(console: Console, channel: str, system: str) -> Response:
    read = await channel_read(console, channel)
    form = Form({"force": False})
    return await service_settings(
        console, channel, "delete_business_system", read=read, form=form, system=read.system(system)
    )


@router.post(f"{SYSTEMS}/{{system}}/delete")
async def delete_business_system(console: Console, channel: str, system: str) -> Response:
    read = await channel_read(console, channel)
    form = Form({"force": False})
    form.submit(console, {"force": console.has("force")})
    try:
        data = {"system": system, "force": form.values["force"]}
        outcome = await send_or_propose(console, channel, "DeleteBusinessSystem", data)
    except Problem as problem:
        status = form.reject(problem)
        return await service_settings(
            console, channel, "delete_business_system", status, read=read, form=form, system=read.system(system)
        )
    return await saved(console, channel, outcome, _("The business system is deleted."))

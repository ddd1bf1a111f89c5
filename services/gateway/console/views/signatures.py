"""The Refresh icon of an open business system: a new signature, after the choice of what becomes of the old one."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from contracts.settings import BusinessSystemSettings, SignatureSettings
from contracts.signature import DEFAULT_GRACE_SECONDS
from services.gateway.console.catalogue import _
from services.gateway.console.channel_view import settled
from services.gateway.console.console_request import Console, ConsoleRequest
from services.gateway.console.forms import Form
from services.gateway.console.proposing import send_or_propose
from services.gateway.console.routing import ConsoleRoute
from services.gateway.console.views.business_systems import SYSTEMS
from services.gateway.console.views.service_settings import channel_read, saved, service_settings
from services.gateway.problems import Problem
from services.gateway.reads import read_settings
from services.gateway.requests import pool_of
from services.gateway.routes.signatures import require_proof, send_for_secret
from services.invoker import delivery_log

router = APIRouter(route_class=ConsoleRoute)

_CHOICES = {"day": DEFAULT_GRACE_SECONDS, "now": 0}


def _in_grace(system: BusinessSystemSettings) -> SignatureSettings | None:
    return next((signature for signature in system.signatures if signature.valid_until is not None), None)


@router.get(f"{SYSTEMS}/{{system}}/signature")
async def refresh_dialog(console: Console, channel: str, system: str) -> Response:
    read = await channel_read(console, channel)
    found = read.system(system)
    proofs = await delivery_log.accepted_signatures(pool_of(console.request), console.caller.account, channel, system)
    return await service_settings(
        console,
        channel,
        "refresh_signature",
        read=read,
        form=Form({"old_signature": "day"}),
        system=found,
        in_grace=_in_grace(found),
        proofs=proofs,
        retiring=console.text("retire"),
        secret_text="",
    )


@router.post(f"{SYSTEMS}/{{system}}/signature")
async def refresh(console: Console, channel: str, system: str) -> Response:
    read = await channel_read(console, channel)
    found = read.system(system)
    form = Form({"old_signature": "day"})
    form.submit(console, {"old_signature": console.text("old_signature", "day")})
    status, secret = 200, ""
    try:
        data: dict[str, Any] = {
            "system": system,
            "grace_seconds": _CHOICES.get(form.values["old_signature"], DEFAULT_GRACE_SECONDS),
            "force": _in_grace(found) is not None and console.has("ends"),
        }
        if console.has("retire"):
            return await _retire(console, channel, system, console.text("retire"))
        if console.has("propose"):
            outcome = await send_or_propose(console, channel, "RefreshSignature", data)
            return await saved(console, channel, outcome, _("The signature is refreshed."))
        outcome, opened = await send_for_secret(console.command(channel), "RefreshSignature", data)
        secret = opened or ""
        read = await settled(console, channel, outcome.version)
        found = read.system(system)
    except Problem as problem:
        status = form.reject(problem)
    proofs = await delivery_log.accepted_signatures(pool_of(console.request), console.caller.account, channel, system)
    return await service_settings(
        console,
        channel,
        "refresh_signature",
        status,
        secret=bool(secret),
        read=read,
        form=form,
        system=found,
        in_grace=_in_grace(found),
        proofs=proofs,
        retiring=console.text("retire"),
        secret_text=secret,
    )


async def _retire(console: ConsoleRequest, channel: str, system: str, key_id: str) -> Response:
    """Ends an old signature before its time, as the receiver is known to accept the newest one."""
    read = await read_settings(console.request, console.caller, channel)
    await require_proof(console.request, console.caller, read, system, key_id)
    data = {"system": system, "key_id": key_id}
    outcome = await send_or_propose(console, channel, "RevokeSignature", data)
    path = "business-systems", system, "signature"
    return await saved(console, channel, outcome, _("The old signature is retired."), *path)

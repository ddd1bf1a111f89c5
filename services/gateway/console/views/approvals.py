"""Approvals: what of a channel changes only after a second person has approved it."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from services.gateway.console.catalogue import _
from services.gateway.console.changes import changes_since
from services.gateway.console.console_request import Console
from services.gateway.console.proposing import send_or_propose
from services.gateway.console.routing import ConsoleRoute
from services.gateway.console.section_forms import APPROVALS, APPROVED_SECTIONS, approvals_form
from services.gateway.console.views.service_settings import channel_read, saved, service_settings
from services.gateway.problems import Problem

router = APIRouter(route_class=ConsoleRoute)


@router.post("/channels/{channel}/service-settings/approvals")
async def save(console: Console, channel: str) -> Response:
    read = await channel_read(console, channel)
    form, current = approvals_form(read), approvals_form(read)
    chosen = set(console.form.get("required_for", []))
    form.submit(console, {"required_for": [name for name in APPROVED_SECTIONS if name in chosen]})
    overtaken, status = console.has("check") or console.has("take") or console.has("keep"), 200
    if not overtaken:
        try:
            outcome = await send_or_propose(
                console, channel, "SaveApprovals", form.values, expected_version=form.version
            )
            return await saved(console, channel, outcome, _("What needs an approval is saved."), part="approvals")
        except Problem as problem:
            overtaken = problem.name == "VersionConflict"
            status = 412 if overtaken else form.reject(problem)
    if overtaken:
        form.changed_by = await changes_since(console, channel, APPROVALS, form.version)
        form.merge(current.base, current.version)
    return await service_settings(console, channel, read=read, approvals=form, status=status)

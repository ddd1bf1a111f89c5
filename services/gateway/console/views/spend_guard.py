"""Spend Guard: limits on what authentication messages may cost."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from services.gateway.console.catalogue import _
from services.gateway.console.changes import changes_since
from services.gateway.console.console_request import Console
from services.gateway.console.routing import ConsoleRoute
from services.gateway.console.section_forms import SPEND_GUARD, spend_guard_form
from services.gateway.console.views.service_settings import channel_read, saved, service_settings
from services.gateway.problems import Problem

router = APIRouter(route_class=ConsoleRoute)


@router.post("/channels/{channel}/service-settings/spend-guard")
async def save(console: Console, channel: str) -> Response:
    read = await channel_read(console, channel)
    form, current = spend_guard_form(read), spend_guard_form(read)
    form.submit(console, {name: console.text(name).strip() for name in form.base})
    overtaken, status = console.has("check") or console.has("take") or console.has("keep"), 200
    if not overtaken:
        try:
            command = console.command(channel, expected_version=form.version)
            outcome = await command.send("SaveSpendGuard", _command_data(form.values))
            return await saved(console, channel, outcome, _("The spend guard is saved."), part="spend-guard")
        except Problem as problem:
            overtaken = problem.name == "VersionConflict"
            status = 412 if overtaken else form.reject(problem)
    if overtaken:
        form.changed_by = await changes_since(console, channel, SPEND_GUARD, form.version)
        form.merge(current.base, current.version)
    return await service_settings(console, channel, read=read, spend_guard=form, status=status)


def _command_data(values: dict[str, Any]) -> dict[str, Any]:
    daily, amount, currency = values["daily_messages_per_country"], values["max_rate"], values["currency"]
    rate = {"amount": amount, "currency": currency.upper()} if amount or currency else None
    count = int(daily) if daily.isascii() and daily.isdigit() and len(daily) < 16 else daily or None
    return {"mode": values["mode"], "max_rate": rate, "daily_messages_per_country": count}

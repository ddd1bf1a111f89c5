"""Service Settings: the page of one channel, its switch for SMS, and its form for OTP delivery scheduling."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from contracts.countries import COUNTRIES
from contracts.kafka.publisher import Outcome
from contracts.otp_scheduling import OtpSchedulingSettings
from contracts.settings import SECTIONS
from services.gateway.console.catalogue import _
from services.gateway.console.changes import changes_since
from services.gateway.console.channel_view import channel_view, settled
from services.gateway.console.console_request import Console, ConsoleRequest
from services.gateway.console.forms import Form
from services.gateway.console.proposing import send_or_propose
from services.gateway.console.rates import country_rates
from services.gateway.console.rendering import url
from services.gateway.console.routing import ConsoleRoute
from services.gateway.console.section_forms import (
    APPROVED_SECTIONS,
    OTP_SCHEDULING,
    approvals_form,
    otp_form,
    spend_guard_form,
)
from services.gateway.problems import Problem
from services.gateway.reads import ReadSettings
from services.gateway.routes.what_if import ProposedSettings, replayed

PAGE = "service-settings"
_OWN_CARDS = ("sms", "otp_scheduling", "spend_guard", "approvals")
"""Sections with a form of their own; any other is shown as it is."""

_PARTS = {
    "business-systems": "business_systems.html",
    "sms": "sms.html",
    "otp-scheduling": "otp_scheduling.html",
    "spend-guard": "spend_guard.html",
    "approvals": "approvals.html",
    "dialog-place": "",
}
"""Element -> its template. A page that draws it anew takes nothing else out of the answer: all countries, for one."""

router = APIRouter(route_class=ConsoleRoute)


async def service_settings(
    console: ConsoleRequest,
    channel: str,
    dialog: str | None = None,
    status: int = 200,
    *,
    secret: bool = False,
    read: ReadSettings | None = None,
    otp: Form | None = None,
    spend_guard: Form | None = None,
    approvals: Form | None = None,
    what_if: list[dict[str, Any]] | None = None,
    **values: Any,
) -> Response:
    """Renders the page, or the part of it that is drawn anew, with a dialog if one is open. ``values`` are its."""
    part = console.request.headers.get("HX-Target", "")
    with_rates = part not in _PARTS or part == "otp-scheduling"
    view = await channel_view(console, channel, PAGE, read)
    found: ReadSettings = view["read"]
    sections = {
        "otp": otp or otp_form(found),
        "spend_guard": spend_guard or spend_guard_form(found),
        "approvals": approvals or approvals_form(found),
        "what_if": what_if,
        "approved_sections": APPROVED_SECTIONS,
        "rates": await country_rates(console) if with_rates and found.settings.channel_type == "whatsapp" else {},
        "part": part,
        "parts": _PARTS,
        "sms_page": console.request.app.state.sms_product_url,
        "other_sections": [name for name in SECTIONS if name not in _OWN_CARDS],
    }
    return console.page("service_settings.html", status, secret=secret, dialog=dialog, **sections, **view, **values)


async def saved(
    console: ConsoleRequest, channel: str, outcome: Outcome, announcement: str, *path: str, part: str = "main"
) -> Response:
    """Goes on to the page, or to the view below it, which then shows what was saved; or to what was only proposed."""
    await settled(console, channel, outcome.version)
    if console.has("propose"):
        return console.done(
            url("channels", channel, "proposed-changes", outcome.command_id), _("The change is proposed.")
        )
    return console.done(url("channels", channel, PAGE, *path), announcement, part)


@router.get("/channels/{channel}/service-settings")
async def service_settings_page(console: Console, channel: str) -> Response:
    return await service_settings(console, channel)


@router.post("/channels/{channel}/service-settings/sms")
async def toggle_sms(console: Console, channel: str) -> Response:
    """The switch says what it is to become, so a second click on a stale page does not undo somebody else's."""
    enabled = console.text("enabled") == "true"
    outcome = await console.command(channel).send("ToggleSms", {"enabled": enabled})
    announcement = _("SMS is activated.") if enabled else _("SMS is deactivated.")
    return await saved(console, channel, outcome, announcement, part="sms")


@router.post("/channels/{channel}/service-settings/otp-scheduling")
async def save_otp_scheduling(console: Console, channel: str) -> Response:
    read = await channel_read(console, channel)
    form = otp_form(read)
    form.submit(
        console,
        {
            "enabled": console.has("enabled"),
            "countries": sorted(COUNTRIES & set(console.form.get("countries", []))),
            "use_own_numbers": console.has("use_own_numbers"),
            "international_rates_acknowledged": console.has("international_rates_acknowledged"),
        },
    )
    current = otp_form(read)
    if console.has("what_if"):
        return await _with_what_if(console, channel, form, read)
    if console.has("check") or console.has("take") or console.has("keep"):
        return await _with_news(console, channel, form, current, read)
    try:
        data = form.values | {"countries": list(form.values["countries"])}
        outcome = await send_or_propose(console, channel, "SaveOtpScheduling", data, expected_version=form.version)
    except Problem as problem:
        if problem.name == "VersionConflict":
            return await _with_news(console, channel, form, current, read, 412)
        status = form.reject(problem)
        return await service_settings(console, channel, read=read, otp=form, status=status)
    return await saved(console, channel, outcome, _("OTP delivery scheduling is saved."), part="otp-scheduling")


async def _with_what_if(console: ConsoleRequest, channel: str, form: Form, read: ReadSettings) -> Response:
    """The form as it is, with what it would have made of the last 31 days' messages."""
    chosen = OtpSchedulingSettings(**{name: form.values[name] for name in OtpSchedulingSettings.model_fields})
    try:
        found = await replayed(console.request, console.caller, channel, ProposedSettings(otp_scheduling=chosen))
    except Problem as problem:
        status = form.reject(problem)
        return await service_settings(console, channel, read=read, otp=form, status=status)
    return await service_settings(console, channel, read=read, otp=form, what_if=found)


async def _with_news(
    console: ConsoleRequest, channel: str, form: Form, current: Form, read: ReadSettings, status: int = 200
) -> Response:
    form.changed_by = await changes_since(console, channel, OTP_SCHEDULING, form.version)
    form.merge(current.base, current.version)
    return await service_settings(console, channel, read=read, otp=form, status=status)


async def channel_read(console: ConsoleRequest, channel: str) -> ReadSettings:
    read: ReadSettings = (await channel_view(console, channel, PAGE))["read"]
    return read

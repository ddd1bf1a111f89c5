"""The forms of a channel's sections, filled with what the read model has."""

from __future__ import annotations

from typing import get_args

from contracts.approvals import RESOURCE as APPROVALS
from contracts.approvals import ApprovedSection
from contracts.otp_scheduling import RESOURCE as OTP_SCHEDULING
from contracts.spend_guard import RESOURCE as SPEND_GUARD
from services.gateway.console.catalogue import _
from services.gateway.console.forms import Form
from services.gateway.reads import ReadSettings

__all__ = [
    "APPROVALS",
    "APPROVED_SECTIONS",
    "OTP_SCHEDULING",
    "SPEND_GUARD",
    "approvals_form",
    "otp_form",
    "spend_guard_form",
]

_APPROVED_TEXTS = {
    "signature": _("Signatures of open business systems"),
    "otp-scheduling": _("OTP Delivery Scheduling"),
    "business-systems": _("Opening, editing, deleting and enabling business systems"),
    "retire": _("Retiring the channel"),
}
APPROVED_SECTIONS = {name: _APPROVED_TEXTS.get(name, name) for name in get_args(ApprovedSection)}


def otp_form(read: ReadSettings) -> Form:
    settings = read.settings.otp_scheduling
    values = {**settings.model_dump(), "countries": list(settings.countries)}
    form = Form(values, read.versions.of(OTP_SCHEDULING))
    form.values["international_rates_acknowledged"] = False
    return form


def spend_guard_form(read: ReadSettings) -> Form:
    settings = read.settings.spend_guard
    rate, daily = settings.max_rate, settings.daily_messages_per_country
    values = {
        "mode": settings.mode,
        "max_rate": "" if rate is None else rate.amount,
        "currency": "" if rate is None else rate.currency,
        "daily_messages_per_country": "" if daily is None else str(daily),
    }
    return Form(values, read.versions.of(SPEND_GUARD))


def approvals_form(read: ReadSettings) -> Form:
    chosen = read.settings.approvals.required_for
    values = {"required_for": [name for name in APPROVED_SECTIONS if name in chosen]}
    return Form(values, read.versions.of(APPROVALS))

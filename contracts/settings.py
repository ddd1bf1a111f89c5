"""A channel's settings, whole, in the shape that ``GET /v1/channels/{channel}/settings`` answers with."""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field

from .approvals import ApprovalsSettings
from .business_system import SignatureStyle
from .channel import ChannelType
from .ids import ID_PATTERN, INTENT_CODE_PATTERN, SYSTEM_PATTERN
from .otp_scheduling import OtpSchedulingSettings
from .resources import CHANNEL, PROPOSED_CHANGES
from .section import SectionSettings, SettingsModel
from .sms import SmsSettings
from .spend_guard import SpendGuardSettings


class SignatureSettings(SettingsModel):
    """Everything but the secret. ``valid_until`` is None on the newest one."""

    key_id: str
    fingerprint: str
    issued_at: str
    valid_until: str | None = None


class IntentSettings(SettingsModel):
    """An intent; ``templates`` are the message templates that refer to it."""

    code: str
    name: str
    default_data: dict[str, Any]
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")
    templates: tuple[str, ...] = ()


class BusinessSystemSettings(SettingsModel):
    """A business system with its valid signatures, the newest first, and its intents."""

    system: str
    name: str
    api_request_url: str
    remarks: str = ""
    signature_style: SignatureStyle = "standard-webhooks"
    disabled: bool = False
    signatures: tuple[SignatureSettings, ...] = ()
    intents: tuple[IntentSettings, ...] = ()


class ChannelSettings(SettingsModel):
    """A channel's settings, whole. ``version`` counts its events."""

    channel: str
    account: str
    channel_type: ChannelType
    name: str
    provider: str | None = None
    retired: bool = False
    home_country: str | None = None
    international_rates_from: dict[str, str] | None = None
    """Recipient's country -> date; None where no international rate applies."""

    version: int
    business_systems: tuple[BusinessSystemSettings, ...] = ()
    sms: SmsSettings = SmsSettings()
    otp_scheduling: OtpSchedulingSettings = OtpSchedulingSettings()
    spend_guard: SpendGuardSettings = SpendGuardSettings()
    approvals: ApprovalsSettings = ApprovalsSettings()


SECTIONS: dict[str, type[SectionSettings]] = {
    name: field.annotation
    for name, field in ChannelSettings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, SectionSettings)
}
"""Field of `ChannelSettings` -> the class of the section that it holds."""

_BELOW_SYSTEMS = "business-systems"
RESOURCE_FORMS = (
    CHANNEL,
    *(section.resource for section in SECTIONS.values()),
    _BELOW_SYSTEMS,
    f"{_BELOW_SYSTEMS}/crm",
    f"{_BELOW_SYSTEMS}/crm/signature",
    f"{_BELOW_SYSTEMS}/crm/intents",
    f"{_BELOW_SYSTEMS}/crm/intents/ORDER",
    PROPOSED_CHANGES,
    f"{PROPOSED_CHANGES}/c-1",
)
"""Every kind of path that names a resource, or the resources below it; ``crm``, ``ORDER`` and ``c-1`` are examples."""

_RESOURCE = re.compile(
    f"{_BELOW_SYSTEMS}/{SYSTEM_PATTERN[1:-1]}(/signature|/intents(/{INTENT_CODE_PATTERN[1:-1]})?)?"
    f"|{PROPOSED_CHANGES}/{ID_PATTERN[1:-1]}"
)


def is_resource(path: str) -> bool:
    """Whether it has one of the `RESOURCE_FORMS`."""
    return path in RESOURCE_FORMS or _RESOURCE.fullmatch(path) is not None

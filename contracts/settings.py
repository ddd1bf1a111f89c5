"""A channel's settings, whole, in the shape that ``GET /v1/channels/{channel}/settings`` answers with."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from .business_system import SignatureStyle
from .channel import ChannelType


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, validate_by_alias=True, validate_by_name=True, serialize_by_alias=True)


class SignatureSettings(_Shape):
    """Everything but the secret. ``valid_until`` is None on the newest one."""

    key_id: str
    fingerprint: str
    issued_at: str
    valid_until: str | None = None


class IntentSettings(_Shape):
    code: str
    name: str
    default_data: dict[str, Any]
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")
    templates: tuple[str, ...] = ()


class BusinessSystemSettings(_Shape):
    system: str
    name: str
    api_request_url: str
    remarks: str = ""
    signature_style: SignatureStyle = "standard-webhooks"
    disabled: bool = False
    signatures: tuple[SignatureSettings, ...] = ()
    intents: tuple[IntentSettings, ...] = ()


class SmsSettings(_Shape):
    enabled: bool = False


class OtpSchedulingSettings(_Shape):
    enabled: bool = False
    countries: tuple[str, ...] = ()
    use_own_numbers: bool = False


class ChannelSettings(_Shape):
    channel: str
    account: str
    channel_type: ChannelType
    name: str
    provider: str | None = None
    retired: bool = False
    version: int
    business_systems: tuple[BusinessSystemSettings, ...] = ()
    sms: SmsSettings = SmsSettings()
    otp_scheduling: OtpSchedulingSettings = OtpSchedulingSettings()

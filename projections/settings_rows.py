"""The rows of the read model of settings, as they are folded in memory, and their columns in the database."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

SystemKey = tuple[str, str]
IntentKey = tuple[str, str, str]


@dataclass(slots=True)
class ChannelRow:
    channel: str
    account: str
    channel_type: str
    name: str
    provider: str | None = None
    retired: bool = False
    version: int = 0
    channel_changed: int = 0
    sms_enabled: bool = False
    sms_changed: int = 0
    otp_enabled: bool = False
    otp_countries: list[str] = field(default_factory=list)
    otp_use_own_numbers: bool = False
    otp_changed: int = 0


@dataclass(slots=True)
class SystemRow:
    channel: str
    system: str
    name: str
    api_request_url: str
    remarks: str
    signature_style: str
    disabled: bool = False
    changed: int = 0
    signature_changed: int = 0
    signatures: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class IntentRow:
    channel: str
    system: str
    code: str
    name: str
    default_data: Any
    json_schema: Any
    templates: list[str] = field(default_factory=list)
    changed: int = 0


CHANNELS = {
    "channel": "text",
    "account": "text",
    "channel_type": "text",
    "name": "text",
    "provider": "text",
    "retired": "boolean",
    "version": "bigint",
    "channel_changed": "bigint",
    "sms_enabled": "boolean",
    "sms_changed": "bigint",
    "otp_enabled": "boolean",
    "otp_countries": "text[]",
    "otp_use_own_numbers": "boolean",
    "otp_changed": "bigint",
}
SYSTEMS = {
    "channel": "text",
    "system": "text",
    "name": "text",
    "api_request_url": "text",
    "remarks": "text",
    "signature_style": "text",
    "disabled": "boolean",
    "changed": "bigint",
    "signature_changed": "bigint",
    "signatures": "json",
}
INTENTS = {
    "channel": "text",
    "system": "text",
    "code": "text",
    "name": "text",
    "default_data": "json",
    "json_schema": "json",
    "templates": "text[]",
    "changed": "bigint",
}

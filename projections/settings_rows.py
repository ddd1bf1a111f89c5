"""The rows of the read model of settings, as they are folded in memory, and their columns in the database."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from projections.events import StoredEvent

SystemKey = tuple[str, str]
IntentKey = tuple[str, str, str]


@dataclass(slots=True)
class ChannelChange:
    """What becomes of a channel's row: all columns of a new one, or those that change of one that is there.

    A column of a channel is what the last event said of it, so nothing needs to be read before it is written.
    """

    version: int
    columns: dict[str, Any]
    found_at: int | None
    """The version that the row must have until then; None: there is none."""

    said: dict[str, StoredEvent] = field(default_factory=dict)
    """Resource -> the last event that says all of it: what came before need not even be decoded."""


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


NEW_CHANNEL: dict[str, Any] = {
    "provider": None,
    "retired": False,
    "sms_enabled": False,
    "sms_changed": 0,
    "otp_enabled": False,
    "otp_countries": (),
    "otp_use_own_numbers": False,
    "otp_changed": 0,
}
"""What a channel is before anything else is said of it."""

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

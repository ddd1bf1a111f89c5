"""The rows of the settings read model: their columns, and how an event changes a business system or an intent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, assert_never

from contracts.business_system import (
    BusinessSystemDisabled,
    BusinessSystemEdited,
    BusinessSystemEnabled,
    BusinessSystemOpened,
)
from contracts.intent import IntentEdited, IntentReferredTo, IntentReleased
from contracts.signature import SignatureRefreshed, SignatureRevealed, SignatureRevoked
from projections.events import StoredEvent

SystemKey = tuple[str, str]
IntentKey = tuple[str, str, str]


@dataclass(slots=True)
class ChannelChange:
    """A new channel's row, or the columns that change of an existing one.

    An event carries the new value of each column that it changes, so nothing is read before it is written.
    """

    version: int
    columns: dict[str, Any]
    """``sections`` holds only the sections that change."""

    expected_version: int | None
    """The version that the existing row must have; None for a new row."""

    last_full_event: dict[str, StoredEvent] = field(default_factory=dict)
    """Section -> its last event, which replaces all of it. Earlier events of the section are not even decoded."""


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
    intents_changed: int = 0
    """The version of the last event of any intent, deleted ones included."""
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
    "closed_changed": "bigint",
    "sections": "jsonb",
    "home_country": "text",
    "international_rates_from": "json",
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
    "intents_changed": "bigint",
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


def new_system(channel: str, event: BusinessSystemOpened, version: int) -> SystemRow:
    return SystemRow(
        channel,
        event.system,
        event.name,
        event.api_request_url,
        event.remarks,
        event.signature_style,
        changed=version,
        signature_changed=version,
        signatures=[] if event.signature is None else [{**event.signature.model_dump(), "valid_until": None}],
    )


def apply_to_intent(intent: IntentRow, event: IntentEdited | IntentReferredTo | IntentReleased, version: int) -> None:
    match event:
        case IntentEdited():
            _set_fields(intent, event.model_dump(exclude_unset=True, by_alias=False, exclude={"system", "code"}))
        case IntentReferredTo():
            intent.templates = sorted({*intent.templates, event.template})
        case IntentReleased():
            intent.templates = [template for template in intent.templates if template != event.template]
    intent.changed = version


def _set_fields(row: SystemRow | IntentRow, changes: dict[str, Any]) -> None:
    for column, value in changes.items():
        setattr(row, column, value)


def apply_to_system(
    system: SystemRow,
    event: BusinessSystemEdited
    | BusinessSystemDisabled
    | BusinessSystemEnabled
    | SignatureRefreshed
    | SignatureRevealed
    | SignatureRevoked,
    version: int,
    time: str,
) -> None:
    match event:
        case BusinessSystemEdited():
            _set_fields(system, event.model_dump(exclude_unset=True, exclude={"system"}))
            system.changed = version
        case BusinessSystemDisabled() | BusinessSystemEnabled():
            system.disabled, system.changed = isinstance(event, BusinessSystemDisabled), version
        case SignatureRefreshed():
            system.signature_changed = version
            if event.api_request_url is None:
                _refresh(system, event, time)
        case SignatureRevealed():
            system.signature_changed = version
        case SignatureRevoked():
            system.signature_changed = version
            system.signatures = [one for one in system.signatures if one["key_id"] != event.key_id]
        case _:
            assert_never(event)


def _refresh(system: SystemRow, event: SignatureRefreshed, time: str) -> None:
    """RFC 3339 in UTC with milliseconds: text compares as the times do."""
    ends = {old.key_id: old.valid_until for old in event.replaced}
    older = [{**old, "valid_until": ends.get(old["key_id"], old["valid_until"])} for old in system.signatures]
    fresh = {"key_id": event.key_id, "fingerprint": event.fingerprint, "issued_at": time, "valid_until": None}
    system.signatures = [fresh, *(old for old in older if old["valid_until"] is None or old["valid_until"] > time)]

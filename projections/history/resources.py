"""The fields of a channel's resources, and how an event changes them.

Events are applied to plain JSON: validating each one would cost more than the rest of the fold. Fields are replaced,
never changed in place.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from contracts.message_types import EVENTS
from contracts.resources import CHANNEL
from contracts.settings import SECTIONS
from contracts.settings_diff import BUSINESS_SYSTEMS, MISSING, SIGNATURES, resource_diff
from projections.events import SECTION_EVENTS, StoredEvent

_SYSTEM_FIELDS = ("name", "api_request_url", "remarks", "signature_style")
_INTENT_FIELDS = ("name", "default_data", "schema")
_NEW_SECTIONS = {section.resource: section().model_dump(mode="json") for section in SECTIONS.values()}
"""Section -> its fields on a newly registered channel."""

_DEFAULTS = {
    name: {field.alias or own: field.get_default() for own, field in kind.model_fields.items()}
    for name, kind in EVENTS.items()
}
"""Event type -> field -> its value where the event leaves it out."""

Fields = dict[str, Any]
ResourceFields = dict[str, Fields]
"""Resource of one channel -> its fields. A resource that does not exist is missing."""


def changed_resource(event: StoredEvent) -> str:
    """The resource whose fields the event changes; the signature is a field of its business system."""
    return event.resource.removesuffix("/signature")


def affected_resources(event: StoredEvent, resource_fields: ResourceFields) -> list[str]:
    """Every resource that the event may change."""
    if event.type in SECTION_EVENTS:
        if event.resource not in resource_fields:
            # The channel was registered before this section was introduced.
            resource_fields[event.resource] = _NEW_SECTIONS[event.resource]
        return [event.resource]
    if event.type == "ChannelRegistered":
        return [CHANNEL, *_NEW_SECTIONS]
    if event.type == "ChannelRetired":
        return list(resource_fields)
    if event.type == "BusinessSystemDeleted":
        return [event.resource, *_resources_below(resource_fields, event.resource)]
    return [changed_resource(event)]


def add_change(resource: str, old: Fields | None, new: Fields | None, now: str, before: Fields, after: Fields) -> None:
    """Adds each leaf that differs to ``before`` and ``after``, as ``resource/field`` -> value.

    ``now`` (RFC 3339) decides which signatures are valid.
    """
    changes = resource_diff(resource, _with_valid_signatures(old, now), _with_valid_signatures(new, now))
    for path, (old_value, new_value) in changes.items():
        name = "/".join(path)
        if old_value is not MISSING:
            before[name] = old_value
        if new_value is not MISSING:
            after[name] = new_value


def sorted_by_path(leaves: Fields) -> Fields:
    return {path: leaves[path] for path in sorted(leaves)} if len(leaves) > 1 else leaves


def _with_valid_signatures(fields: Fields | None, now: str) -> Fields | None:
    """The fields with the key ids of the valid signatures in place of all signatures."""
    if fields is None or SIGNATURES not in fields:
        return fields
    valid = [one["key_id"] for one in fields[SIGNATURES] if (one.get("valid_until") or "~") > now]
    return fields | {SIGNATURES: valid}


def apply_event(event: StoredEvent, resource_fields: ResourceFields) -> None:
    """Replaces the fields of the resources that the event changes."""
    if event.type in SECTION_EVENTS:
        resource_fields[event.resource] = event.section() or {}
        return
    resource = changed_resource(event)
    given, known = event.fields(), _DEFAULTS[event.type]
    data = known | given
    match event.type:
        case "ChannelRegistered":
            resource_fields[CHANNEL] = {
                "name": data["name"],
                "provider": data["provider"],
                "retired": False,
                "home_country": data["home_country"],
                "international_rates_from": data["international_rates_from"],
            }
            resource_fields |= _NEW_SECTIONS
        case "ChannelRetired":
            for below in _resources_below(resource_fields, BUSINESS_SYSTEMS):
                if SIGNATURES in resource_fields[below]:
                    resource_fields[below] = resource_fields[below] | {SIGNATURES: []}
            resource_fields[resource] = resource_fields[resource] | {"retired": True}
        case "BusinessSystemOpened":
            signatures = [] if data["signature"] is None else [{"key_id": data["signature"]["key_id"]}]
            resource_fields[resource] = {name: data[name] for name in _SYSTEM_FIELDS} | {
                "disabled": False,
                "signatures": signatures,
            }
        case "BusinessSystemDeleted":
            for gone in [resource, *_resources_below(resource_fields, resource)]:
                resource_fields.pop(gone, None)
        case "IntentAdded":
            resource_fields[resource] = {name: data[name] for name in _INTENT_FIELDS} | {"templates": []}
        case "IntentDeleted":
            resource_fields.pop(resource, None)
        case _:
            if resource in resource_fields:
                changed = given.keys() & known.keys() - {"system", "code"}
                resource_fields[resource] = _changed_fields(resource_fields[resource], event, data, changed)


def _resources_below(resource_fields: ResourceFields, resource: str) -> list[str]:
    return [name for name in resource_fields if name.startswith(f"{resource}/")]


def _changed_fields(fields: Fields, event: StoredEvent, data: Fields, changed: Set[str]) -> Fields:
    """``data`` has every field of the event's type; ``changed`` names those that the event carries."""
    match event.type:
        case "BusinessSystemDisabled" | "BusinessSystemEnabled":
            return fields | {"disabled": event.type == "BusinessSystemDisabled"}
        case "IntentReferredTo":
            return fields | {"templates": sorted({*fields["templates"], data["template"]})}
        case "IntentReleased":
            return fields | {"templates": [name for name in fields["templates"] if name != data["template"]]}
        case "SignatureRefreshed" if data["api_request_url"] is None:
            ends = {old["key_id"]: old["valid_until"] for old in data["replaced"]}
            older = [
                one | {"valid_until": ends.get(one["key_id"], one.get("valid_until"))} for one in fields["signatures"]
            ]
            return fields | {"signatures": [{"key_id": data["key_id"]}, *older]}
        case "SignatureRevoked":
            return fields | {"signatures": [one for one in fields["signatures"] if one["key_id"] != data["key_id"]]}
        case "ChannelEdited" | "BusinessSystemEdited" | "IntentEdited":
            return fields | {name: data[name] for name in changed}
        case _:
            return fields

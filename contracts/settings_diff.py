"""The difference between two states of a channel's settings, as paths with the values before and after.

A *leaf* is a value that is compared and restored as a whole. Its path is the resource's path followed by a field:
``("business-systems", "crm", "intents", "ORDER", "name")``. A business system and an intent each have a leaf of their
own, True, that says that they exist. Intent data, its schema, its templates, the dates of international rates, and a
section with several fields are one leaf each. Signatures are the list of their key ids, because nothing else of them
can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .json_values import same_json
from .resources import CHANNEL
from .settings import SECTIONS, BusinessSystemSettings, ChannelSettings, IntentSettings

Path = tuple[str, ...]
Leaves = dict[Path, Any]
Fields = Mapping[str, Any]
"""The fields of one resource, as JSON values."""

BUSINESS_SYSTEMS = "business-systems"
INTENTS = "intents"
SIGNATURES = "signatures"

CHANNEL_FIELDS = ("name", "provider", "retired", "home_country", "international_rates_from")
BUSINESS_SYSTEM_FIELDS = ("name", "api_request_url", "remarks", "signature_style", "disabled")
INTENT_FIELDS = ("name", "default_data", "schema", "templates")

ONE_LEAF = frozenset(section.resource for section in SECTIONS.values() if len(section.model_fields) > 1)
"""The sections that are one leaf: their fields belong together. A section with one field has a leaf for it."""

_ALWAYS_THERE = frozenset({CHANNEL, *(section.resource for section in SECTIONS.values())})


class Missing:
    """The type of `MISSING`."""

    def __repr__(self) -> str:
        return "nothing"


MISSING = Missing()
"""The value of a leaf that does not exist."""


class Change(NamedTuple):
    before: Any
    after: Any


Diff = dict[Path, Change]


def settings_diff(before: ChannelSettings | None, after: ChannelSettings | None) -> Diff:
    """Every leaf that differs, sorted by path. None stands for a channel that does not exist."""
    return diff({} if before is None else leaves_of(before), {} if after is None else leaves_of(after))


def diff(before: Mapping[Path, Any], after: Mapping[Path, Any]) -> Diff:
    """Every leaf that differs, sorted by path."""
    changes: Diff = {}
    for path in sorted(before.keys() | after.keys()):
        change = Change(before.get(path, MISSING), after.get(path, MISSING))
        if not same_json(*change):
            changes[path] = change
    return changes


def resource_diff(resource: str, before: Fields | None, after: Fields | None) -> Diff:
    """`diff` of the leaves of one resource, sorted by path. None stands for a resource that does not exist."""
    if before is None or after is None:
        return diff(
            {} if before is None else resource_leaves(resource, before),
            {} if after is None else resource_leaves(resource, after),
        )
    path = tuple(resource.split("/"))
    if resource in ONE_LEAF:
        return {} if same_json(before, after) else {path: Change(before, after)}
    changes: Diff = {}
    fields = before if before.keys() == after.keys() else before.keys() | after.keys()
    for field in sorted(fields):
        old, new = before.get(field, MISSING), after.get(field, MISSING)
        if not same_json(old, new):
            changes[*path, field] = Change(old, new)
    return changes


def resource_leaves(resource: str, fields: Fields) -> Leaves:
    """The leaves of one resource that exists."""
    path = tuple(resource.split("/"))
    if resource in ONE_LEAF:
        return {path: fields}
    leaves: Leaves = {} if resource in _ALWAYS_THERE else {path: True}
    for field, value in fields.items():
        leaves[*path, field] = value
    return leaves


def leaves_of(settings: ChannelSettings) -> Leaves:
    """Every leaf of a channel's settings."""
    leaves = resource_leaves(CHANNEL, {field: getattr(settings, field) for field in CHANNEL_FIELDS})
    for name, section in SECTIONS.items():
        leaves |= resource_leaves(section.resource, getattr(settings, name).model_dump(mode="json"))
    for system in settings.business_systems:
        leaves |= business_system_leaves(system)
    return leaves


def business_system_leaves(system: BusinessSystemSettings) -> Leaves:
    """Every leaf of a business system and of its intents."""
    leaves = resource_leaves(f"{BUSINESS_SYSTEMS}/{system.system}", _business_system_fields(system))
    for intent in system.intents:
        leaves |= intent_leaves(system.system, intent)
    return leaves


def intent_leaves(system: str, intent: IntentSettings) -> Leaves:
    """Every leaf of an intent of the business system."""
    return resource_leaves(f"{BUSINESS_SYSTEMS}/{system}/{INTENTS}/{intent.code}", _intent_fields(intent))


def _business_system_fields(system: BusinessSystemSettings) -> dict[str, Any]:
    fields = {field: getattr(system, field) for field in BUSINESS_SYSTEM_FIELDS}
    return {**fields, SIGNATURES: [signature.key_id for signature in system.signatures]}


def _intent_fields(intent: IntentSettings) -> dict[str, Any]:
    return {
        "name": intent.name,
        "default_data": intent.default_data,
        "schema": intent.json_schema,
        "templates": list(intent.templates),
    }

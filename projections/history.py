"""The history: every event and every rejection, who asked, from where, and what it changed, before and after.

A batch is folded in memory: the resources that its events touch are loaded, changed, and written back with the
entries. What an event changed is told as ``resource/field`` -> value, the way the audits tell it; that a business
system or an intent is there is itself such a value, true.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from contracts.commands import EVENTS
from contracts.envelope import EventEnvelope
from contracts.outcome import CommandRejected, OutcomeEnvelope
from projections.settings import Connection, Copying
from projections.sql import arrays, records, statements, upsert

NAME = "switchboard.projector-history"

_SQL = statements(Path(__file__).with_suffix(".sql"))
_ENTRIES = {
    "topic": "text",
    "partition": "integer",
    "log_offset": "bigint",
    "id": "text",
    "time": "timestamptz",
    "account": "text",
    "channel": "text",
    "version": "bigint",
    "type": "text",
    "command": "text",
    "command_id": "text",
    "correlation_id": "text",
    "actor": "text",
    "source": "text",
    "resource": "text",
    "before": "json",
    "after": "json",
    "data": "json",
    "rejection": "text",
    "message": "text",
    "repeated": "boolean",
}
_NOTHING = dict.fromkeys(_ENTRIES)
_FOREIGN = ("id", "command", "command_id", "correlation_id", "actor", "source", "message")
_RESOURCES = {"channel": "text", "resource": "text", "fields": "json"}
_KEEP = upsert("history.resources", _RESOURCES, ("channel", "resource"))
_REJECTED = b'"type":"CommandRejected"'
_OTP = "otp-scheduling"
_SYSTEM_FIELDS = ("name", "api_request_url", "remarks", "signature_style")
_INTENT_FIELDS = ("name", "default_data", "schema")
_NO_FORM = {"enabled": False, "countries": [], "use_own_numbers": False}

_DEFAULTS = {
    name: {field.alias or own: field.get_default() for own, field in kind.model_fields.items()}
    for name, kind in EVENTS.items()
}
"""Type -> field -> what it is where it is left out."""

Fields = dict[str, Any]
Key = tuple[str, str]
"""(channel, resource)"""


async def apply_events(connection: Copying, partition: int, batch: Sequence[Any]) -> None:
    """Records of one partition of the events."""
    events = [(record.offset, EventEnvelope.model_validate_json(record.value)) for record in batch]
    fold = _Fold()
    await fold.load(connection, [event for _, event in events])
    entries = []
    for offset, event in events:
        before, after = fold.apply(event)
        entry = _entry("events", partition, offset, event)
        entry.update(version=event.sequence, type=event.type, resource=event.resource)
        entry.update(before=before, after=after, data=event.data)
        entries.append(entry)
    await fold.write(connection)
    await _enter(connection, entries)


async def apply_outcomes(connection: Copying, partition: int, batch: Sequence[Any]) -> None:
    """Records of one partition of the outcomes: the rejections are entered."""
    entries = []
    for record in batch:
        if _REJECTED not in (record.value or b""):
            continue
        outcome = OutcomeEnvelope.model_validate_json(record.value)
        body = outcome.body()
        if isinstance(body, CommandRejected):
            entries.append(
                _entry("outcomes", partition, record.offset, outcome)
                | {"version": body.version, "type": outcome.type, "data": body.model_extra or None}
                | {"rejection": body.rejection, "message": body.message, "repeated": outcome.repeated}
            )
    await _enter(connection, entries)


def _entry(topic: str, partition: int, offset: int, envelope: EventEnvelope | OutcomeEnvelope) -> Fields:
    return _NOTHING | {
        "topic": topic,
        "partition": partition,
        "log_offset": offset,
        "id": envelope.id,
        "time": datetime.fromisoformat(envelope.time),
        "account": envelope.accountid,
        "channel": envelope.subject,
        "command": envelope.commandtype,
        "command_id": envelope.causationid,
        "correlation_id": envelope.correlationid,
        "actor": envelope.actor,
        "source": envelope.commandsource,
        "repeated": False,
    }


async def _enter(connection: Copying, entries: list[Fields]) -> None:
    if entries:
        there = records(map(_without_nul, entries), _ENTRIES)
        await connection.copy_records_to_table("entries", schema_name="history", records=there, columns=list(_ENTRIES))


def _without_nul(entry: Fields) -> Fields:
    """What others wrote may hold a NUL, which PostgreSQL's text does not know."""
    if "\0" not in "".join(entry[name] or "" for name in _FOREIGN):
        return entry
    return {name: value.replace("\0", "\ufffd") if isinstance(value, str) else value for name, value in entry.items()}


class _Fold:
    """What the resources of a batch hold; a resource that is not there is not in it."""

    def __init__(self) -> None:
        self._resources: dict[Key, Fields] = {}
        self._stored: set[Key] = set()

    async def load(self, connection: Connection, events: Iterable[EventEnvelope]) -> None:
        whole = {event.subject for event in events if event.type in ("BusinessSystemDeleted", "ChannelRetired")}
        single = {
            (event.subject, resource)
            for event in events
            if event.subject not in whole and event.type in EVENTS
            for resource in _touched(event)
        }
        rows = []
        if whole:
            rows += await connection.fetch(_SQL["resources_of_channels"], list(whole))
        if single:
            rows += await connection.fetch(_SQL["resources"], *map(list, zip(*single, strict=True)))
        self._resources = {(row["channel"], row["resource"]): json.loads(row["fields"]) for row in rows}
        self._stored = set(self._resources)

    def apply(self, event: EventEnvelope) -> tuple[Fields, Fields]:
        """What it changed, before and after."""
        touched = [(event.subject, resource) for resource in self._reach(event)]
        before = self._leaves(touched, event.time)
        if event.type in EVENTS:
            self._change(event, _known(event))
        after = self._leaves(touched, event.time)
        changed = {path for path in before.keys() | after.keys() if not _same(before, after, path)}
        return (
            {path: before[path] for path in sorted(changed & before.keys())},
            {path: after[path] for path in sorted(changed & after.keys())},
        )

    def _reach(self, event: EventEnvelope) -> list[str]:
        """The resources that the event may change."""
        if event.type == "ChannelRegistered":
            return ["channel", "sms", _OTP]
        if event.type == "ChannelRetired":
            return [resource for _, resource in self._below(event.subject, "")]
        if event.type == "BusinessSystemDeleted":
            return [event.resource, *(resource for _, resource in self._below(event.subject, f"{event.resource}/"))]
        return _touched(event)

    def _change(self, event: EventEnvelope, data: Fields) -> None:
        channel, [resource, *_] = event.subject, _touched(event)
        key = (channel, resource)
        given = {name: value for name, value in event.data.items() if name in data and name not in ("system", "code")}
        match event.type:
            case "ChannelRegistered":
                self._resources[channel, "channel"] = {
                    "name": data["name"],
                    "provider": data["provider"],
                    "retired": False,
                }
                self._resources[channel, "sms"] = {"enabled": False}
                self._resources[channel, _OTP] = dict(_NO_FORM)
            case "ChannelRetired":
                for gone in self._below(channel, "business-systems/"):
                    del self._resources[gone]
                self._resources[key] = self._resources[key] | {"retired": True}
            case "BusinessSystemOpened":
                signatures = [] if data["signature"] is None else [{"key_id": data["signature"]["key_id"]}]
                self._resources[key] = {name: data[name] for name in _SYSTEM_FIELDS} | {
                    "disabled": False,
                    "signatures": signatures,
                }
            case "BusinessSystemDeleted":
                for gone in [key, *self._below(channel, f"{resource}/")]:
                    self._resources.pop(gone, None)
            case "IntentAdded":
                self._resources[key] = {name: data[name] for name in _INTENT_FIELDS} | {"templates": []}
            case "IntentDeleted":
                self._resources.pop(key, None)
            case _:
                if key in self._resources:
                    self._resources[key] = _changed(self._resources[key], event, data, given)

    def _below(self, channel: str, prefix: str) -> list[Key]:
        return [key for key in self._resources if key[0] == channel and key[1].startswith(prefix)]

    def _leaves(self, keys: Iterable[Key], now: str) -> Fields:
        """``resource/field`` -> value; ``now`` (RFC 3339) decides which signatures are valid."""
        found: Fields = {}
        for key in keys:
            fields, resource = self._resources.get(key), key[1]
            if fields is None:
                continue
            if resource == _OTP:
                found[resource] = fields
                continue
            if resource not in ("channel", "sms"):
                found[resource] = True
            found |= {f"{resource}/{name}": value for name, value in fields.items() if name != "signatures"}
            if "signatures" in fields:
                found[f"{resource}/signatures"] = [
                    one["key_id"] for one in fields["signatures"] if (one.get("valid_until") or "~") > now
                ]
        return found

    async def write(self, connection: Connection) -> None:
        gone = self._stored - self._resources.keys()
        if gone:
            await connection.execute(_SQL["forget"], *map(list, zip(*gone, strict=True)))
        kept = [{"channel": one[0], "resource": one[1], "fields": fields} for one, fields in self._resources.items()]
        if kept:
            await connection.execute(_KEEP, *arrays(kept, _RESOURCES))


def _known(event: EventEnvelope) -> Fields:
    """The event's data without what its type does not know, and with what was left out."""
    known = _DEFAULTS[event.type]
    return {name: event.data.get(name, default) for name, default in known.items()}


def _touched(event: EventEnvelope) -> list[str]:
    """An event of a signature changes its system."""
    return [event.resource.removesuffix("/signature")]


def _changed(fields: Fields, event: EventEnvelope, data: Fields, given: Fields) -> Fields:
    match event.type:
        case "SmsActivated" | "SmsDeactivated":
            return {"enabled": event.type == "SmsActivated"}
        case "OtpSchedulingSaved":
            return {name: list(data[name]) if name == "countries" else data[name] for name in _NO_FORM}
        case "BusinessSystemDisabled" | "BusinessSystemEnabled":
            return fields | {"disabled": event.type == "BusinessSystemDisabled"}
        case "IntentReferredTo":
            return fields | {"templates": sorted({*fields["templates"], data["template"]})}
        case "IntentReleased":
            return fields | {"templates": [one for one in fields["templates"] if one != data["template"]]}
        case "SignatureRefreshed" if data["api_request_url"] is None:
            ends = {old["key_id"]: old["valid_until"] for old in data["replaced"]}
            older = [
                one | {"valid_until": ends.get(one["key_id"], one.get("valid_until"))} for one in fields["signatures"]
            ]
            return fields | {"signatures": [{"key_id": data["key_id"]}, *older]}
        case "SignatureRevoked":
            return fields | {"signatures": [one for one in fields["signatures"] if one["key_id"] != data["key_id"]]}
        case "ChannelEdited" | "BusinessSystemEdited" | "IntentEdited":
            return fields | given
        case _:
            return fields


def _same(before: Fields, after: Fields, path: str) -> bool:
    """There in both and equal as JSON: to Python, 1, 1.0 and true are equal too."""
    if path not in before or path not in after:
        return False
    one, other = before[path], after[path]
    return one is other or (type(one) is type(other) and to_json(one) == to_json(other))

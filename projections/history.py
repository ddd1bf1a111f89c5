"""The history: every event and every rejection, who asked, from where, and what it changed, before and after.

A batch is folded in memory: the resources that its events touch are loaded, changed, and written back with the
entries. What an event changed is told as ``resource/field`` -> value, the way the audits tell it; that a business
system or an intent is there is itself such a value, true.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from msgspec.json import decode as from_json
from msgspec.json import encode as to_json

from contracts.commands import EVENTS
from contracts.outcome import CommandRejected, OutcomeEnvelope
from projections.events import StoredEvent, TracedEvent, read_traced_event
from projections.settings import Connection, Copying
from projections.sql import arrays, statements, update, upsert

NAME = "switchboard.projector-history"

_SQL = statements(Path(__file__).with_suffix(".sql"))
_ENTRIES = (
    *("topic", "partition", "log_offset", "id", "time", "account", "channel", "command", "command_id"),
    *("correlation_id", "actor", "source", "version", "type", "resource", "before", "after", "data"),
    *("rejection", "message", "repeated"),
)
_REMEMBERED = 5_000
"""Channels a partition: some hundred bytes for each resource."""

_NO_RESOURCES: Held = {}

_ABSENT = object()
_NUL = b"\\u0000"
_RESOURCES = {"channel": "text", "resource": "text", "fields": "json"}
_KEEP = upsert("history.resources", _RESOURCES, ("channel", "resource"))
_CHANGE = update(
    "history.resources",
    _RESOURCES,
    ["fields"],
    "resources.channel = given.channel AND resources.resource = given.resource",
)
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

Held = dict[str, Fields]
"""Resource of one channel -> what it holds."""

Resources = dict[str, Held]
"""By channel."""


class EventHistory:
    """Enters events. What the resources of a batch held is remembered for the next one, and not loaded again.

    The memory of a partition says behind which event it is true, so whatever becomes of a batch, and whoever else
    applied one meanwhile: it is used only by the events that follow.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, Resources]] = {}

    async def apply(self, connection: Copying, partition: int, batch: Sequence[Any]) -> None:
        """Records of one partition of the events."""
        events = [read_traced_event(record.value) for record in batch]
        behind, known = self._known.pop(partition, (0, {}))
        fold = _Fold(known if events[0].partitionsequence == behind + 1 else {})
        await fold.load(connection, events)
        entries = []
        for record, event in zip(batch, events, strict=True):
            before, after = fold.apply(event)
            told = (event.sequence, event.type, event.resource, _json(before), _json(after), bytes(event.data).decode())
            entries.append(_entry(record, partition, event, *told))
        await fold.write(connection)
        await _enter(connection, entries)
        self._known[partition] = events[-1].partitionsequence, fold.remembered()


async def apply_outcomes(connection: Copying, partition: int, batch: Sequence[Any]) -> None:
    """Records of one partition of the outcomes: the rejections are entered."""
    entries = []
    for record in batch:
        if _REJECTED not in (record.value or b""):
            continue
        outcome = OutcomeEnvelope.model_validate_json(record.value)
        body = outcome.body()
        if isinstance(body, CommandRejected):
            data = _json(body.model_extra) if body.model_extra else None
            told = (body.version, outcome.type, None, None, None, data, body.rejection, body.message, outcome.repeated)
            entries.append(_entry(record, partition, outcome, *told))
    await _enter(connection, entries)


def _entry(
    record: Any,
    partition: int,
    envelope: TracedEvent | OutcomeEnvelope,
    version: int | None,
    kind: str,
    resource: str | None,
    before: str | None,
    after: str | None,
    data: str | None,
    rejection: str | None = None,
    message: str | None = None,
    repeated: bool = False,  # noqa: FBT001, FBT002 -- a column of a row
) -> tuple[Any, ...]:
    """A row of `_ENTRIES`. What others wrote may hold a NUL, which PostgreSQL's text does not know."""
    entry = (
        "outcomes" if isinstance(envelope, OutcomeEnvelope) else "events",
        partition,
        record.offset,
        envelope.id,
        datetime.fromisoformat(envelope.time),
        envelope.accountid,
        envelope.subject,
        envelope.commandtype,
        envelope.causationid,
        envelope.correlationid,
        envelope.actor,
        envelope.commandsource,
        version,
        kind,
        resource,
        before,
        after,
        data,
        rejection,
        message,
        repeated,
    )
    if _NUL not in record.value:
        return entry
    return tuple(value.replace("\0", "\ufffd") if isinstance(value, str) else value for value in entry)


def _json(value: Any) -> str:
    return to_json(value).decode()


async def _enter(connection: Copying, entries: list[tuple[Any, ...]]) -> None:
    if entries:
        await connection.copy_records_to_table(
            "entries", schema_name="history", records=entries, columns=list(_ENTRIES)
        )


class _Fold:
    """What the resources of a batch hold; one that is not there is not in it. Fields are replaced, never changed."""

    def __init__(self, known: Resources) -> None:
        self._resources = known
        self._changed: dict[Key, Fields | None] = {}
        self._fresh: set[Key] = set()
        """Those of the changed that were not there before."""

    async def load(self, connection: Connection, events: Sequence[StoredEvent]) -> None:
        whole = {event.subject for event in events if event.type in ("BusinessSystemDeleted", "ChannelRetired")}
        begun = {event.subject for event in events if event.sequence == 1}
        single = {
            (event.subject, resource)
            for event in events
            if event.type in EVENTS
            and (resource := _touched(event)) not in self._resources.get(event.subject, _NO_RESOURCES)
            and event.subject not in whole
            and event.subject not in begun
        }
        rows = []
        if whole:
            rows += await connection.fetch(_SQL["resources_of_channels"], list(whole))
        if single:
            rows += await connection.fetch(_SQL["resources"], *map(list, zip(*single, strict=True)))
        for row in rows:
            self._resources.setdefault(row["channel"], {})[row["resource"]] = from_json(row["fields"])

    def apply(self, event: StoredEvent) -> tuple[Fields, Fields]:
        """What it changed, before and after."""
        before: Fields = {}
        after: Fields = {}
        if event.type in EVENTS:
            held = self._resources.setdefault(event.subject, {})
            was = [(resource, held.get(resource)) for resource in _reach(event, held)]
            _change(event, held)
            for resource, fields in was:
                now = held.get(resource)
                if now is not fields:
                    key = event.subject, resource
                    if fields is None and key not in self._changed:
                        self._fresh.add(key)
                    self._changed[key] = now
                    _tell(resource, fields, now, event.time, before, after)
        return _in_order(before), _in_order(after)

    async def write(self, connection: Connection) -> None:
        gone: list[Key] = []
        fresh: list[Fields] = []
        other: list[Fields] = []
        for key, fields in self._changed.items():
            if fields is None:
                gone.append(key)
            else:
                rows = fresh if key in self._fresh else other
                rows.append({"channel": key[0], "resource": key[1], "fields": fields})
        if gone:
            await connection.execute(_SQL["forget"], *map(list, zip(*gone, strict=True)))
        if other:
            done = await connection.execute(_CHANGE, *arrays(other, _RESOURCES))
            if done != f"UPDATE {len(other)}":  # somebody deleted some
                fresh += other
        if fresh:
            await connection.execute(_KEEP, *arrays(fresh, _RESOURCES))

    def remembered(self) -> Resources:
        """Those of the channels that changed last; not intents, which may be large."""
        for channel in dict.fromkeys(channel for channel, _ in self._changed):
            held = self._resources.pop(channel)
            self._resources[channel] = {name: fields for name, fields in held.items() if "/intents/" not in name}
        for channel in list(islice(self._resources, max(0, len(self._resources) - _REMEMBERED))):
            del self._resources[channel]
        return self._resources


def _reach(event: StoredEvent, held: Held) -> list[str]:
    """The resources that the event may change."""
    if event.type == "ChannelRegistered":
        return ["channel", "sms", _OTP]
    if event.type == "ChannelRetired":
        return list(held)
    if event.type == "BusinessSystemDeleted":
        return [event.resource, *_below(held, event.resource)]
    return [_touched(event)]


def _change(event: StoredEvent, held: Held) -> None:
    resource, came = _touched(event), event.fields()
    known = _DEFAULTS[event.type]
    data = known | came
    match event.type:
        case "ChannelRegistered":
            held["channel"] = {
                "name": data["name"],
                "provider": data["provider"],
                "retired": False,
            }
            held["sms"] = {"enabled": False}
            held[_OTP] = dict(_NO_FORM)
        case "ChannelRetired":
            for gone in _below(held, "business-systems"):
                del held[gone]
            held[resource] = held[resource] | {"retired": True}
        case "BusinessSystemOpened":
            signatures = [] if data["signature"] is None else [{"key_id": data["signature"]["key_id"]}]
            held[resource] = {name: data[name] for name in _SYSTEM_FIELDS} | {
                "disabled": False,
                "signatures": signatures,
            }
        case "BusinessSystemDeleted":
            for gone in [resource, *_below(held, resource)]:
                held.pop(gone, None)
        case "IntentAdded":
            held[resource] = {name: data[name] for name in _INTENT_FIELDS} | {"templates": []}
        case "IntentDeleted":
            held.pop(resource, None)
        case _:
            if resource in held:
                given = came.keys() & known.keys() - {"system", "code"}
                held[resource] = _changed(held[resource], event, data, given)


def _below(held: Held, resource: str) -> list[str]:
    return [name for name in held if name.startswith(f"{resource}/")]


def _tell(resource: str, old: Fields | None, new: Fields | None, now: str, before: Fields, after: Fields) -> None:
    """Adds ``resource/field`` -> value of what differs, there and then."""
    if old is None or new is None or (resource == _OTP and not _same(old, new)):
        for told, fields in ((before, old), (after, new)):
            if fields is not None:
                told.update(_leaves(resource, fields, now))
        return
    for name in old.keys() | new.keys():
        was, is_ = old.get(name, _ABSENT), new.get(name, _ABSENT)
        if was is is_:
            continue
        if name == "signatures":
            was, is_ = _valid(was, now), _valid(is_, now)
        if was is _ABSENT or is_ is _ABSENT or not _same(was, is_):
            for told, value in ((before, was), (after, is_)):
                if value is not _ABSENT:
                    told[f"{resource}/{name}"] = value


def _leaves(resource: str, fields: Fields, now: str) -> Fields:
    """All that there is to tell of a resource: that it is there is itself such a value, and OTP scheduling is one."""
    if resource == _OTP:
        return {resource: fields}
    found = {f"{resource}/{name}": value for name, value in fields.items()}
    if resource not in ("channel", "sms"):
        found[resource] = True
    if "signatures" in fields:
        found[f"{resource}/signatures"] = _valid(fields["signatures"], now)
    return found


def _valid(signatures: Any, now: str) -> list[str]:
    """The key ids of those that are valid at a time (RFC 3339)."""
    return [one["key_id"] for one in signatures if (one.get("valid_until") or "~") > now]


def _in_order(leaves: Fields) -> Fields:
    return {path: leaves[path] for path in sorted(leaves)} if len(leaves) > 1 else leaves


def _touched(event: StoredEvent) -> str:
    """An event of a signature changes its system."""
    return event.resource.removesuffix("/signature")


def _changed(fields: Fields, event: StoredEvent, data: Fields, given: Set[str]) -> Fields:
    """``data`` is what the type knows, with what was left out; ``given`` are the fields that were not."""
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
            return fields | {name: data[name] for name in given}
        case _:
            return fields


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: to Python, 1, 1.0 and true are equal too."""
    return one is other or (type(one) is type(other) and to_json(one) == to_json(other))

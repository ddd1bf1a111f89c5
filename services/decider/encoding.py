"""Encodes events and outcomes as JSON. ``data`` comes last in both, which `data_of` relies on.

The attributes of a command are encoded once and shared by its events and its outcome. The other attributes need no
escaping: ids, times, hashes, names of types and resources.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic_core import to_json

from contracts.envelope import CONTENT_TYPE, CommandEnvelope, EnvelopeIdentity, Origin, content_digest
from contracts.message import EventData
from contracts.message_types import EVENTS
from contracts.pydantic_internals import json_serializer
from contracts.rejection import Rejection

_TO_JSON = {event: json_serializer(event) for event in EVENTS.values()}
_DATA = b',"data":'
_ORIGIN = tuple(Origin.model_fields)


class EventAttributes(NamedTuple):
    """The attributes that differ between the events of a command; see `EventEnvelope`."""

    sequence: int
    partitionsequence: int
    previoushash: str
    resource: str


def command_digest(envelope: CommandEnvelope) -> bytes:
    """A digest of the content that a repeated command id must have in common."""
    return content_digest(envelope.type, envelope.data, dry_run=bool(envelope.dryrun))


def data_json(event: EventData) -> bytes:
    """An event's data; an edit contains only what changed."""
    return _TO_JSON[type(event)](event, exclude_unset=True, by_alias=True)


def shared_attributes(command: CommandEnvelope | EnvelopeIdentity, traceparent: str | None = None) -> bytes:
    """The attributes that the events and the outcome of a command share, as JSON without the outer braces.

    ``traceparent`` takes the place of the command's own."""
    shared: dict[str, Any] = {
        "subject": command.subject,
        "accountid": command.accountid,
        "commandsource": command.source,
        "commandtype": command.type,
        "causationid": command.id,
        "correlationid": command.id,
        "datacontenttype": "application/json",
    }
    if isinstance(command, CommandEnvelope):
        if command.correlationid is not None:
            shared["correlationid"] = command.correlationid
        if command.actor is not None:
            shared["actor"] = command.actor
        if (trace := traceparent or command.traceparent) is not None:
            shared["traceparent"] = trace
        for name in _ORIGIN:
            if (value := getattr(command, name)) is not None:
                shared[name] = value
    return to_json(shared)[1:-1]


def event_json(
    event_id: str, event_type: str, time: str, shared: bytes, attributes: EventAttributes, data: bytes
) -> bytes:
    head = f'{{"specversion":"1.0","id":"{event_id}","type":"{event_type}","source":"switchboard","time":"{time}",'
    tail = (
        f',"sequence":{attributes.sequence},"partitionsequence":{attributes.partitionsequence}'
        f',"previoushash":"{attributes.previoushash}","resource":"{attributes.resource}"'
    )
    return b"%b%b%b%b%b}" % (head.encode(), shared, tail.encode(), _DATA, data)


class SealedSecret(NamedTuple):
    """A signature for its requester: its id, and its secret in a sealed box as base64."""

    key_id: str
    box: str


def accepted_json(version: int, event_ids: list[str], sealed: SealedSecret | None, notices: tuple[str, ...]) -> bytes:
    """An acceptance as an outcome's data."""
    events = '"' + '","'.join(event_ids) + '"' if event_ids else ""
    seal = "" if sealed is None else f',"key_id":"{sealed.key_id}","sealed":"{sealed.box}"'
    return b'{"version":%d,"events":[%b]%b%b}' % (version, events.encode(), seal.encode(), _notices_json(notices))


def would_append_json(version: int, events: Sequence[EventData], notices: tuple[str, ...]) -> bytes:
    """The acceptance of a dry run as an outcome's data: the events without ids."""
    listed = b",".join(b'{"type":"%b","data":%b}' % (type(one).__name__.encode(), data_json(one)) for one in events)
    return b'{"version":%d,"would_append":[%b]%b}' % (version, listed, _notices_json(notices))


def _notices_json(notices: tuple[str, ...]) -> bytes:
    return b',"notices":%b' % to_json(notices) if notices else b""


def outcome_json(outcome_id: str, time: str, shared: bytes, data: bytes, *, repeated: bool) -> bytes:
    outcome_type = "CommandRejected" if data.startswith(b'{"rejection":') else "CommandAccepted"
    head = f'{{"specversion":"1.0","id":"{outcome_id}","type":"{outcome_type}","source":"switchboard","time":"{time}",'
    return b"%b%b%b%b%b}" % (head.encode(), shared, b',"repeated":true' if repeated else b"", _DATA, data)


def rejection_json(rejection: Rejection, version: int | None) -> bytes:
    """A rejection as an outcome's data: its name, message, version and fields."""
    data: dict[str, Any] = {"rejection": type(rejection).__name__, "message": rejection.message}
    if version is not None:
        data["version"] = version
    return to_json(data | rejection.model_dump())


def data_of(value: bytes) -> bytes:
    """The ``data`` of an event or outcome encoded here. JSON escapes quotes in strings, so the first match is right."""
    return value[value.index(_DATA) + len(_DATA) : -1]


def outcome_headers(command_id: str, account: str, digest: bytes | None) -> list[tuple[str, bytes]]:
    """``digest`` is on remembered outcomes only: invalid commands and reused ids have none."""
    headers = [CONTENT_TYPE, ("causationid", command_id.encode()), ("accountid", account.encode())]
    if digest is not None:
        headers.append(("digest", digest))
    return headers

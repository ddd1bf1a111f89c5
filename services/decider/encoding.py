"""Events and outcomes as the bytes that go onto the log. ``data`` comes last in both, which `data_of` relies on.

Each command's own attributes are encoded once and shared by its events and its outcome. What is put between them is
made by us and needs no escaping: ids, times, hashes, names of types and resources.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pydantic_core import to_json

from contracts.envelope import CONTENT_TYPE, CommandEnvelope, ReadableEnvelope, content_digest
from contracts.message import EventData
from contracts.rejections import Rejection

_DATA = b',"data":'


class EventPlace(NamedTuple):
    """Where an event stands: in its channel, in its partition, after which one, and what it changed."""

    sequence: int
    partitionsequence: int
    previoushash: str
    resource: str


def digest_of(envelope: CommandEnvelope) -> bytes:
    """Of what counts as the command's content."""
    return content_digest(envelope.type, envelope.data, dry_run=bool(envelope.dryrun))


def data_json(event: EventData) -> bytes:
    """An event's data; an edit's holds only what changed."""
    return event.__pydantic_serializer__.to_json(event, exclude_unset=True, by_alias=True)


def shared_attributes(command: CommandEnvelope | ReadableEnvelope) -> bytes:
    """The attributes that the events and the outcome of a command share: the inside of a JSON object."""
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
        if command.traceparent is not None:
            shared["traceparent"] = command.traceparent
    return to_json(shared)[1:-1]


def event_json(event_id: str, kind: str, time: str, shared: bytes, place: EventPlace, data: bytes) -> bytes:
    head = f'{{"specversion":"1.0","id":"{event_id}","type":"{kind}","source":"switchboard","time":"{time}",'
    tail = (
        f',"sequence":{place.sequence},"partitionsequence":{place.partitionsequence}'
        f',"previoushash":"{place.previoushash}","resource":"{place.resource}"'
    )
    return b"%b%b%b%b%b}" % (head.encode(), shared, tail.encode(), _DATA, data)


def accepted_json(version: int, event_ids: list[str], sealed: str | None) -> bytes:
    """An acceptance as an outcome's data; ``sealed`` is base64."""
    events = '"' + '","'.join(event_ids) + '"' if event_ids else ""
    seal = "" if sealed is None else f',"sealed":"{sealed}"'
    return f'{{"version":{version},"events":[{events}]{seal}}}'.encode()


def outcome_json(outcome_id: str, time: str, shared: bytes, data: bytes, *, repeated: bool) -> bytes:
    kind = "CommandRejected" if data.startswith(b'{"rejection":') else "CommandAccepted"
    head = f'{{"specversion":"1.0","id":"{outcome_id}","type":"{kind}","source":"switchboard","time":"{time}",'
    return b"%b%b%b%b%b}" % (head.encode(), shared, b',"repeated":true' if repeated else b"", _DATA, data)


def rejection_json(rejection: Rejection, version: int | None) -> bytes:
    """A rejection as an outcome's data: name, sentence, version, and what it is about."""
    data: dict[str, Any] = {"rejection": type(rejection).__name__, "message": rejection.message}
    if version is not None:
        data["version"] = version
    return to_json(data | rejection.model_dump())


def data_of(value: bytes) -> bytes:
    """The ``data`` of an event or outcome as made here. JSON escapes quotes in strings, so the first match is it."""
    return value[value.index(_DATA) + len(_DATA) : -1]


def outcome_headers(command_id: str, account: str, digest: bytes | None) -> list[tuple[str, bytes]]:
    """``digest`` is there on what is remembered: an invalid command, and a reused id, are not."""
    headers = [CONTENT_TYPE, ("causationid", command_id.encode()), ("accountid", account.encode())]
    if digest is not None:
        headers.append(("digest", digest))
    return headers

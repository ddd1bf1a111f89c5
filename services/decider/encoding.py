"""Events and outcomes as the bytes that go onto the log. ``data`` comes last in both, which `data_of` relies on."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic_core import to_json

from contracts.envelope import CONTENT_TYPE, CommandEnvelope, ReadableEnvelope
from contracts.message import EventData

SOURCE = "switchboard"
_DATA = b',"data":'


def digest_of(envelope: CommandEnvelope) -> bytes:
    """Hex SHA-256 of what counts as a command's content: its type, its data, and whether it is a dry run."""
    content = [envelope.type, envelope.data, envelope.dryrun]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest().encode()


def data_json(event: EventData) -> bytes:
    """An event's data; an edit's holds only what changed."""
    return event.__pydantic_serializer__.to_json(event, exclude_unset=True, by_alias=True)


def with_data(head: dict[str, Any], data: bytes) -> bytes:
    return to_json(head)[:-1] + _DATA + data + b"}"


def data_of(value: bytes) -> bytes:
    """The ``data`` of a record that `with_data` made. A JSON string escapes its quotes, so the first match is it."""
    return value[value.index(_DATA) + len(_DATA) : -1]


def envelope_head(
    *, record_id: str, kind: str, time: str, command: CommandEnvelope | ReadableEnvelope
) -> dict[str, Any]:
    """The attributes that the events and the outcome of a command share."""
    head: dict[str, Any] = {
        "specversion": "1.0",
        "id": record_id,
        "type": kind,
        "source": SOURCE,
        "subject": command.subject,
        "time": time,
        "accountid": command.accountid,
        "commandsource": command.source,
        "commandtype": command.type,
        "causationid": command.id,
        "correlationid": command.id,
        "datacontenttype": "application/json",
    }
    if isinstance(command, CommandEnvelope):
        if command.correlationid is not None:
            head["correlationid"] = command.correlationid
        if command.actor is not None:
            head["actor"] = command.actor
        if command.traceparent is not None:
            head["traceparent"] = command.traceparent
    return head


def outcome_headers(command_id: str, account: str, digest: bytes | None) -> list[tuple[str, bytes]]:
    """``digest`` is there on what is remembered: an invalid command, and a reused id, are not."""
    headers = [CONTENT_TYPE, ("causationid", command_id.encode()), ("accountid", account.encode())]
    if digest is not None:
        headers.append(("digest", digest))
    return headers

"""The records that the message router publishes: decisions, what became of messages, charges, dead letters."""

from __future__ import annotations

from typing import Any, NamedTuple

from pydantic_core import to_json

from contracts import topics
from contracts.envelope import CONTENT_TYPE
from contracts.ids import is_id, uuid8_of
from contracts.message import EventData, rfc3339
from contracts.pydantic_internals import json_serializer
from contracts.usage import MessageCharged, usage_id
from services.infrastructure.dead_letter import dead_letter
from services.message_router.outbox import OutboxRecord

SOURCE = "switchboard"
INTERNAL_ERROR = "It could not be handled because of a fault on our side; send it again later, or ask the operator."
_CONTENT_TYPE_HEADER = CONTENT_TYPE[0], CONTENT_TYPE[1].decode()
_CAUSATION_HEADER = "causationid"
"""The request's id, so that a reader of decisions need not parse those that others wait for."""


class Subject(NamedTuple):
    """The message that a notice is about, and the request that caused it."""

    partition: int
    channel: str
    account: str
    message: str
    causation_id: str
    correlation_id: str
    traceparent: str | None = None
    """Of the request, where what it caused is published with its handling."""


def to_json_bytes(data: EventData) -> bytes:
    return json_serializer(type(data))(data)


def notice(subject: Subject, data: EventData, now: int, *unique: str, encoded: bytes | None = None) -> OutboxRecord:
    """A record of message-decisions. Its id is derived from message, type and ``unique``. ``encoded`` is the data as
    `to_json_bytes`, where that is known."""
    notice_id = uuid8_of("notice", subject.account, subject.channel, subject.message, type(data).__name__, *unique)
    return _record(topics.MESSAGE_DECISIONS.name, subject, notice_id, data, encoded or to_json_bytes(data), now)


def charge(subject: Subject, data: MessageCharged, now: int) -> OutboxRecord:
    """A record of usage, with the id by which everybody recognises a repeat."""
    charge_id = usage_id(subject.account, subject.channel, subject.message)
    return _record(topics.USAGE.name, subject, charge_id, data, to_json_bytes(data), now)


def _record(topic: str, subject: Subject, record_id: str, data: EventData, encoded: bytes, now: int) -> OutboxRecord:
    attributes = {
        "specversion": "1.0",
        "id": record_id,
        "type": type(data).__name__,
        "source": SOURCE,
        "subject": subject.channel,
        "time": rfc3339(now),
        "accountid": subject.account,
        "causationid": subject.causation_id,
        "correlationid": subject.correlation_id,
        **({} if subject.traceparent is None else {"traceparent": subject.traceparent}),
        "datacontenttype": "application/json",
    }
    value = to_json(attributes)[:-1] + b',"data":' + encoded + b"}"
    headers: tuple[tuple[str, str], ...] = (_CONTENT_TYPE_HEADER,)
    if is_id(subject.causation_id):  # that of an invalid request may be any text
        headers += ((_CAUSATION_HEADER, subject.causation_id),)
    return OutboxRecord(subject.partition, topic, subject.channel.encode(), value, headers)


def dead_letter_record(record: Any, reason: str) -> OutboxRecord:
    """An unreadable request as a dead letter on the partition of the same number.

    Its value may have a recipient's number, so it stays where it is, on `switchboard.message-requests` for 7 days.
    """
    letter = dead_letter(record, record.topic, record.partition, reason)
    headers = letter.headers | {"omitted": str(len(record.value or b""))}
    return OutboxRecord(record.partition, topics.DEAD_LETTERS.name, letter.key, None, tuple(headers.items()))

"""What a round's topics say, sorted by message. It knows no code of the router's, only the contract's records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pydantic import ValidationError

from contracts import topics
from contracts.envelope import InvalidEnvelope, UndecodableEnvelope, read_command
from contracts.message import CommandData, unix_milliseconds
from contracts.message_routing import RouteMessage
from contracts.message_status import ReportStatus
from contracts.topics import Topic
from tests.faults.message_router.log import Log, Record

MessageKey = tuple[str, str, str]
"""Account, channel, message."""


class Notice(NamedTuple):
    """A record of message-decisions or usage."""

    record: Record
    type: str
    id: str
    at: int
    data: dict[str, Any]


@dataclass(slots=True)
class Message:
    """``requests`` and ``statuses`` in the topic's order; ``moved`` where some are not on their home partition."""

    requests: list[tuple[Record, RouteMessage]] = field(default_factory=list)
    statuses: list[tuple[Record, ReportStatus]] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    charges: list[Notice] = field(default_factory=list)
    moved: bool = False

    def of(self, kind: str) -> list[Notice]:
        return [one for one in self.notices if one.type == kind]

    @property
    def routed(self) -> dict[str, Any] | None:
        found = self.of("MessageRouted")
        return found[0].data if found else None


@dataclass(slots=True)
class Facts:
    """Of one account. ``unreadable`` and ``invalid`` are records of requests that nothing can come of."""

    messages: dict[MessageKey, Message] = field(default_factory=lambda: defaultdict(Message))
    unreadable: list[Record] = field(default_factory=list)
    invalid: list[Record] = field(default_factory=list)
    refusals_of_invalid: list[Notice] = field(default_factory=list)
    other: list[Notice] = field(default_factory=list)


def facts_of(log: Log, account: str, channels: tuple[str, ...]) -> Facts:
    facts = Facts()
    homes: dict[str, int] = {one.json["subject"]: one.partition for one in log.of(topics.EVENTS)}
    for record in log.of(topics.MESSAGE_REQUESTS):
        if (record.key or b"").decode() in channels or record.json.get("accountid") == account:
            _read_request(facts, record, homes)
    for notice, key in _notices(log, topics.MESSAGE_DECISIONS, account):
        if notice.type in ("RoutingRefused", "StatusRefused") and notice.data["reason"] == "InvalidRequest":
            facts.refusals_of_invalid.append(notice)
        elif key is None:
            facts.other.append(notice)
        else:
            facts.messages[key].notices.append(notice)
    for notice, key in _notices(log, topics.USAGE, account):
        assert key is not None
        facts.messages[key].charges.append(notice)
    return facts


def _read_request(facts: Facts, record: Record, homes: dict[str, int]) -> None:
    try:
        envelope = read_command(record.value)
    except UndecodableEnvelope:
        facts.unreadable.append(record)
        return
    except InvalidEnvelope:
        facts.invalid.append(record)
        return
    kind: type[CommandData] = RouteMessage if envelope.type == "RouteMessage" else ReportStatus
    try:
        body = kind.model_validate(envelope.data)
    except ValidationError:
        facts.invalid.append(record)
        return
    name = body.message if isinstance(body, ReportStatus) else envelope.id
    message = facts.messages[envelope.accountid, envelope.subject, name]
    message.moved |= record.partition != homes.get(envelope.subject, record.partition)
    if isinstance(body, ReportStatus):
        message.statuses.append((record, body))
    else:
        assert isinstance(body, RouteMessage)
        message.requests.append((record, body))


def _notices(log: Log, topic: Topic, account: str) -> Iterator[tuple[Notice, MessageKey | None]]:
    for record in log.of(topic):
        told = record.json
        if told.get("accountid") == account:
            name = told["data"].get("message")
            key = None if name is None else (told["accountid"], told["subject"], name)
            yield Notice(record, told["type"], told["id"], unix_milliseconds(told["time"]), told["data"]), key

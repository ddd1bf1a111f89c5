"""The records of `switchboard.message-requests`: read, checked, and stripped of the recipient's number."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from contracts.envelope import (
    CommandEnvelope,
    EnvelopeIdentity,
    InvalidEnvelope,
    UndecodableEnvelope,
    read_command,
    validation_message,
)
from contracts.message import CommandData
from contracts.message_routing import Category, RouteMessage, RoutingRefused
from contracts.message_status import ReportStatus, Status, StatusRefused, Via
from contracts.partitioner import partition_of
from contracts.pydantic_internals import json_serializer
from services.domain.message_routing.country import Country, country_of
from services.domain.message_routing.lifecycle import Asked
from services.message_router.notices import INTERNAL_ERROR, Subject, dead_letter_record, notice
from services.message_router.outbox import OutboxRecord
from services.message_router.recipients import Recipients

MessageKey = tuple[str, str, str]
"""Channel, account and message."""

_request_json = json_serializer(RouteMessage)
_TYPES: dict[str, type[CommandData]] = {kind.__name__: kind for kind in (RouteMessage, ReportStatus)}


@dataclass(slots=True)
class RouteRequest:
    """A request without the recipient's number. ``fallback_to`` is encrypted; ``digest`` is a keyed hash of the whole
    content, because the plain hash of a number can be tried out."""

    subject: Subject
    digest: str
    category: Category
    country: Country
    recipient_hash: str
    asked: Asked | None
    fallback_to: bytes | None
    settings_version: int | None
    record: str
    """Topic, partition and offset, to tell a repeat from the first."""

    @property
    def key(self) -> MessageKey:
        return self.subject.channel, self.subject.account, self.subject.message


@dataclass(slots=True)
class StatusReport:
    """``subject`` is that of the reported message. ``received_at`` (Unix milliseconds) is when it came to the topic."""

    subject: Subject
    status: Status
    via: Via
    at: str
    error: str | None
    received_at: int

    @property
    def key(self) -> MessageKey:
        return self.subject.channel, self.subject.account, self.subject.message


Item = RouteRequest | StatusReport


_NUMBER = re.compile(r"(?<!\d)\+?\d(?:[\s().-]?\d){6,14}(?!\d)")
"""Whatever may be a recipient's number."""
_QUOTED = re.compile(r"'[^']*'")


def _redact_error(error: str | None) -> str | None:
    return _NUMBER.sub("…", error.replace("\x00", "")) if error else None


def _redact_names(problem: str) -> str:
    """A sentence that names unknown fields, whose names may be anything."""
    return _QUOTED.sub(lambda quoted: _NUMBER.sub("…", quoted[0]), problem)


class _InvalidRequest(Exception):
    """The text is the sentence why."""


class RequestReader:
    """Reads requests; ``partitions`` is the number of the topic's partitions."""

    def __init__(self, recipients: Recipients, partitions: int) -> None:
        self._recipients, self._partitions = recipients, partitions

    def read(self, records: Sequence[Any], now: int) -> tuple[list[Item], list[OutboxRecord]]:
        """The requests in their order, and the refusals and dead letters of records that are none."""
        items: list[Item] = []
        rejected: list[OutboxRecord] = []
        for record in records:
            try:
                envelope = read_command(record.value)
                items.append(self._item(envelope, record))
            except UndecodableEnvelope as error:
                rejected.append(dead_letter_record(record, str(error)))
            except InvalidEnvelope as error:
                rejected.append(self._refusal(error.envelope, error.problem, record, now))
            except _InvalidRequest as error:
                rejected.append(self._refusal(envelope, str(error), record, now))
        return items, rejected

    def internal_error(self, record: Any, now: int) -> OutboxRecord | None:
        """The refusal of a request or status whose handling raises; None where nobody can be told of it."""
        try:
            try:
                envelope: CommandEnvelope | EnvelopeIdentity = read_command(record.value)
            except InvalidEnvelope as error:
                envelope = error.envelope
            return self._refusal(envelope, INTERNAL_ERROR, record, now, "InternalError")
        except Exception:  # noqa: BLE001 -- this may be what raises; the record is a dead letter all the same
            return None

    def _item(self, envelope: CommandEnvelope, record: Any) -> Item:
        if envelope.dryrun:
            raise _InvalidRequest("'dryrun' is wrong: a dry run is asked for over HTTP, by ?dry_run=true.")
        kind = _TYPES.get(envelope.type)
        if kind is None:
            raise _InvalidRequest("'type' is wrong: it must be RouteMessage or ReportStatus.")
        try:
            body = kind.model_validate(envelope.data)
        except ValidationError as error:
            raise _InvalidRequest(validation_message(error, "data")) from None
        if isinstance(body, ReportStatus):
            subject = self._subject(envelope, body.message)
            return StatusReport(subject, body.status, body.via, body.at, _redact_error(body.error), record.timestamp)
        assert isinstance(body, RouteMessage)  # noqa: S101 -- the only other type
        return self._route_request(envelope, body, _name(record))

    def _route_request(self, envelope: CommandEnvelope, body: RouteMessage, record: str) -> RouteRequest:
        subject, fallback = self._subject(envelope, envelope.id), body.sms_fallback
        content = _request_json(body, exclude_unset=True)  # in the order of the fields, whatever the request had
        return RouteRequest(
            subject,
            self._recipients.hash(content.decode()),
            body.category,
            country_of(body.recipient),
            self._recipients.hash(body.recipient),
            None if fallback is None else Asked(frozenset(fallback.on), fallback.wait_seconds),
            None
            if fallback is None
            else self._recipients.encrypt(fallback.to, subject.account, subject.channel, subject.message),
            body.settings_version,
            record,
        )

    def _subject(self, envelope: CommandEnvelope | EnvelopeIdentity, message: str) -> Subject:
        correlation = getattr(envelope, "correlationid", None) or envelope.id
        partition = partition_of(envelope.subject, self._partitions)
        return Subject(
            partition,
            envelope.subject,
            envelope.accountid,
            message,
            envelope.id,
            correlation.replace("\x00", ""),
            getattr(envelope, "traceparent", None),
        )

    def _refusal(
        self,
        envelope: CommandEnvelope | EnvelopeIdentity,
        problem: str,
        record: Any,
        now: int,
        reason: Literal["InvalidRequest", "InternalError"] = "InvalidRequest",
    ) -> OutboxRecord:
        """The refusal; its id is that of the record, so that a repeat is another one."""
        problem, unique = _redact_names(problem), _name(record)
        subject = self._subject(envelope, envelope.id)
        if envelope.type == ReportStatus.__name__:
            return notice(subject, StatusRefused(reason=reason, sentence=problem), now, unique)
        refused = RoutingRefused(message=envelope.id, reason=reason, sentence=problem)
        return notice(subject, refused, now, unique)


def _name(record: Any) -> str:
    return f"{record.topic}/{record.partition}/{record.offset}"

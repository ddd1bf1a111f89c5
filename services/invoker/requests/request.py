"""A request as it comes on `switchboard.invocation-requests`: read, checked, and stored in a delivery's row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError

from contracts.envelope import (
    CommandEnvelope,
    EnvelopeIdentity,
    InvalidEnvelope,
    UndecodableEnvelope,
    read_command,
    validation_message,
)
from contracts.ids import uuid7
from contracts.invocation import TEST_CALL, InvocationFailed, InvokeIntent, MakeTestCall, TriggerIntent
from services.invoker.outbox.notifications import Requester, dead_letter_record, outcome_record
from services.invoker.outbox.records import OutboxRecord
from services.invoker.queue.delivery import RequestKey
from services.invoker.requests.request_validation import CallRequest

RequestBody = InvokeIntent | MakeTestCall | TriggerIntent
_TYPES: dict[str, type[RequestBody]] = {kind.__name__: kind for kind in (InvokeIntent, MakeTestCall, TriggerIntent)}
_DATA = {"data"}


class InvalidRequest(Exception):
    """The requester gets a refusal; the text is the sentence why."""


@dataclass(frozen=True, slots=True)
class Request:
    """``delivery`` is the id of its delivery, if no record before it has the same request."""

    envelope: CommandEnvelope
    body: RequestBody
    delivery: str
    expires_at: datetime | None

    @property
    def key(self) -> RequestKey:
        return self.envelope.accountid, self.envelope.subject, self.envelope.id

    @property
    def requester(self) -> Requester:
        return Requester(*self.key, self.correlation_id, traceparent=self.envelope.traceparent)

    @property
    def code(self) -> str:
        return TEST_CALL if isinstance(self.body, MakeTestCall) else self.body.code

    @property
    def correlation_id(self) -> str:
        return (self.envelope.correlationid or self.envelope.id).replace("\x00", "")

    @property
    def is_test(self) -> bool:
        return not isinstance(self.body, InvokeIntent)

    def call(self) -> CallRequest:
        envelope, body = self.envelope, self.body
        return CallRequest(
            envelope.accountid,
            envelope.subject,
            body.system,
            self.code,
            body.template if isinstance(body, InvokeIntent) else None,
            None if isinstance(body, MakeTestCall) else body.data,
            body.settings_version,
            self.is_test,
        )

    def canonical_content(self) -> str:
        return canonical_json(self.body.model_dump(exclude_unset=True))


def read_requests(records: Sequence[Any]) -> tuple[list[Request], list[OutboxRecord]]:
    """The requests, and the refusals and dead letters of records that are none."""
    requests: list[Request] = []
    rejected: list[OutboxRecord] = []
    for record in records:
        try:
            envelope = read_command(record.value)
            body = body_of(envelope)
            requests.append(Request(envelope, body, _delivery_id(record, envelope), _expires_at(record, body)))
        except UndecodableEnvelope as error:
            rejected.append(dead_letter_record(record, str(error)))
        except InvalidEnvelope as error:
            rejected.append(_refusal(error.envelope, error.problem))
        except InvalidRequest as error:
            rejected.append(_refusal(envelope, str(error)))
    return requests, rejected


def _delivery_id(record: Any, envelope: CommandEnvelope) -> str:
    """Derived from the record, so that a database that lost the delivery gives it the same id again: a receiver then
    recognises the call by its ``webhook-id``. It sorts by the time of the request."""
    digest = hashlib.sha256(f"{envelope.accountid}\0{envelope.subject}\0{envelope.id}\0{record.offset}".encode())
    return uuid7(record.timestamp, digest.digest()[:10])


def _expires_at(record: Any, body: RequestBody) -> datetime | None:
    """Counted from when the broker had the request: it may have waited there longer than it is to live."""
    if not isinstance(body, InvokeIntent) or body.ttl_seconds is None:
        return None
    return datetime.fromtimestamp(record.timestamp / 1_000, UTC) + timedelta(seconds=body.ttl_seconds)


def body_of(envelope: CommandEnvelope) -> RequestBody:
    """The request in the envelope. Raises `InvalidRequest`."""
    if envelope.dryrun:
        raise InvalidRequest(
            "'dryrun' is wrong: no call is dry; over HTTP, POST …/invocations?dry_run=true validates a request."
        )
    kind = _TYPES.get(envelope.type)
    if kind is None:
        raise InvalidRequest(f"'type' is wrong: this topic takes {', '.join(_TYPES)}, not {envelope.type!r}.")
    try:
        return kind.model_validate(envelope.data)
    except ValidationError as error:
        raise InvalidRequest(validation_message(error, "data")) from None


def _refusal(envelope: CommandEnvelope | EnvelopeIdentity, problem: str) -> OutboxRecord:
    requester = Requester(envelope.accountid, envelope.subject, envelope.id, envelope.id)
    return outcome_record(requester, InvocationFailed(status="refused", reason="InvalidCommand", message=problem))


def stored_request(body: RequestBody, call_body: bytes | None) -> str:
    """The request as JSON for its row. Its data is stored once: ``true`` here where the call's body has it."""
    if call_body is None or isinstance(body, MakeTestCall) or body.data is None:
        return body.model_dump_json(exclude_unset=True)
    return body.model_dump_json(exclude_unset=True, exclude=_DATA)[:-1] + ',"data":true}'


def original_request(request: str, call_body: bytes | None) -> Any:
    """The request as it was made, from a row's ``request`` and ``body``."""
    content = json.loads(request)
    if content.get("data") is True and call_body is not None:
        content["data"] = json.loads(call_body)["data"]
    return content


def canonical_json(content: object) -> str:
    """JSON to compare contents by: the order of fields does not count; 1, 1.0 and true differ."""
    return json.dumps(content, sort_keys=True)

"""Refusals of requests that become no delivery."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from contracts.envelope import CommandEnvelope, EnvelopeIdentity, InvalidEnvelope, read_command
from contracts.ids import new_id
from contracts.invocation import InvocationFailed
from services.invoker.limits import Limits
from services.invoker.outbox.notifications import Requester, outcome_record, request_id_reused_record
from services.invoker.outbox.records import OutboxRecord
from services.invoker.poison import INTERNAL_ERROR
from services.invoker.queue.rate_of_test_calls import TEST_CALLS_PER_MINUTE
from services.invoker.requests.request import Request


def internal_error_refusal(record: Any) -> OutboxRecord | None:
    """The refusal of a request whose handling raises; None where nobody can be told of it.

    It is not remembered: the same request may be sent again.
    """
    try:
        try:
            envelope: CommandEnvelope | EnvelopeIdentity = read_command(record.value)
        except InvalidEnvelope as error:
            envelope = error.envelope
        place = f"internal-error/{record.partition}/{record.offset}"
        requester = Requester(envelope.accountid, envelope.subject, envelope.id, envelope.id, subject=place)
        outcome = InvocationFailed(status="refused", reason="InternalError", message=INTERNAL_ERROR)
        return outcome_record(requester, outcome)
    except Exception:  # noqa: BLE001 -- this may be what raises; the record is a dead letter all the same
        return None


def beyond_quota_refusal(request: Request, limits: Limits) -> OutboxRecord:
    message = f"The account's deliveries take more than {limits.max_stored_bytes:,} bytes; first some have to end."
    return _refusal_for_now(request, "DeliveryQuotaExceeded", message)


def too_many_test_calls_refusal(request: Request) -> OutboxRecord:
    message = f"An account may make {TEST_CALLS_PER_MINUTE} test calls a minute; wait, and make this one then."
    return _refusal_for_now(request, "TooManyTestCalls", message)


def _refusal_for_now(request: Request, reason: str, message: str) -> OutboxRecord:
    """The same request may be accepted later, and has its outcome then."""
    outcome = InvocationFailed(
        system=request.body.system, code=request.code, status="refused", reason=reason, message=message
    )
    requester = replace(request.requester, subject=f"quota/{new_id()}")
    return outcome_record(requester, outcome)


def reused_id_refusal(request: Request, content: str) -> OutboxRecord:
    envelope = request.envelope
    digest = hashlib.sha256(f"{envelope.type}\n{content}".encode()).hexdigest()[:16]
    outcome = InvocationFailed(
        system=request.body.system,
        code=request.code,
        status="refused",
        reason="RequestIdReused",
        message=f"Another request had the id {envelope.id!r} before, and stands; this one needs an id of its own.",
    )
    return request_id_reused_record(request.requester, digest, outcome)

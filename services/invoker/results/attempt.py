"""The result of one leased delivery, before it is recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple, assert_never

from contracts.invocation import IntentInvoked, InvocationFailed
from services.domain.webhook_signature import fingerprint
from services.invoker.outbox.notifications import outcome_record
from services.invoker.outbox.records import OutboxRecord
from services.invoker.queue.delivery import Delivery
from services.invoker.results.retry_policy import (
    Answered,
    CallResult,
    Delivered,
    GaveUp,
    NextStep,
    Parked,
    Postponed,
    RetryAt,
)
from services.invoker.settings_replica.endpoint import Endpoint


class AcceptedKey(NamedTuple):
    """A signature that a receiver accepted, and how its answer shows that.

    ``named``: the answer named it; ``alone``: it was the only one sent, and the answer was a success.
    """

    key_id: str
    how: Literal["named", "alone"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """A call that was made."""

    endpoint: Endpoint
    started_at: datetime
    duration_ms: int
    result: CallResult

    @property
    def newest_key_id(self) -> str | None:
        """None of a call to a listener, which carries no signature."""
        return self.endpoint.signatures[0].key_id if self.endpoint.signatures else None

    def key_ids(self) -> str:
        """Of all signatures sent, separated by blanks."""
        return " ".join([signature.key_id for signature in self.endpoint.signatures])

    def accepted_key(self) -> AcceptedKey | None:
        if not isinstance(self.result, Answered) or not self.result.succeeded:
            return None
        named, sent = self.result.accepted_key, self.endpoint.signatures
        for signature in sent:
            if named is not None and named in (signature.key_id, fingerprint(signature.secret)):
                return AcceptedKey(signature.key_id, "named")
        return AcceptedKey(sent[0].key_id, "alone") if named is None and len(sent) == 1 else None


@dataclass(frozen=True, slots=True)
class DeliveryResult:
    """What happens to a leased delivery; ``attempt`` is None where no call was made."""

    delivery: Delivery
    next_step: NextStep
    attempt: Attempt | None = None


@dataclass(frozen=True, slots=True)
class RecordedBatch:
    """``results``: those whose lease was still valid. ``outbox_records`` are reserved outbox rows, ``outbox_ids``."""

    results: list[DeliveryResult]
    outbox_ids: Sequence[int]
    outbox_records: Sequence[OutboxRecord]


def outcome_of(result: DeliveryResult) -> OutboxRecord | None:
    """The outcome for the requester; None where the delivery goes on."""
    delivery, attempt = result.delivery, result.attempt
    fields = {
        "system": delivery.system,
        "code": delivery.code,
        "delivery": delivery.id,
        "test": delivery.test,
        "key_id": delivery.key_id if attempt is None else attempt.newest_key_id,
        "attempts": delivery.attempts - (1 if attempt is None else 0),
    }
    match result.next_step:
        case Delivered(answer):
            return outcome_record(delivery.requester, IntentInvoked(**fields, result=answer))
        case GaveUp(reason, message):
            failed = InvocationFailed(**fields, status="dead", reason=reason, message=message)
            return outcome_record(delivery.requester, failed)
        case RetryAt() | Parked() | Postponed():
            return None
        case _:
            assert_never(result.next_step)

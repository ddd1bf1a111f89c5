"""What came of claimed deliveries, before it is recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, assert_never

from contracts.invocation import IntentInvoked, InvocationFailed
from services.domain.signing import fingerprint
from services.invoker.endpoints import Endpoint
from services.invoker.notifications import Asked, Note, outcome_note
from services.invoker.outcomes import Answered, Delivered, Failed, GaveUp, Next, Parked, PutBack, RetryAt


@dataclass(frozen=True, slots=True)
class Attempt:
    """A call that was made."""

    endpoint: Endpoint
    started: datetime
    duration_ms: int
    ended: Answered | Failed

    def key_ids(self) -> str:
        return " ".join([signature.key_id for signature in self.endpoint.signatures])

    def accepted(self) -> tuple[str, str] | None:
        """The signature that the receiver accepted, as far as its answer shows: its key id, and how that shows.

        ``named``: the receiver named it; ``alone``: it was the only one sent, and the answer was a success.
        """
        if not isinstance(self.ended, Answered) or not self.ended.succeeded:
            return None
        named = self.ended.named_key
        for one in self.endpoint.signatures:
            if named is not None and named in (one.key_id, fingerprint(one.secret)):
                return one.key_id, "named"
        sent = self.endpoint.signatures
        return (sent[0].key_id, "alone") if named is None and len(sent) == 1 else None


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one claimed delivery row; ``attempt`` is None where no call was made."""

    row: Any
    next: Next
    attempt: Attempt | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """``kept``: the results of those that still held their lease. ``notes`` are held in the outbox, as ``rows``."""

    kept: list[Result]
    rows: Sequence[int]
    notes: Sequence[Note]


def told_of(result: Result) -> Note | None:
    """The outcome, where the result is an end."""
    row, attempt = result.row, result.attempt
    key_id = row["key_id"] if attempt is None else attempt.endpoint.signatures[0].key_id
    made = row["attempts"] - (1 if attempt is None else 0)
    about = {"system": row["system"], "code": row["code"], "delivery": row["id"], "key_id": key_id, "attempts": made}
    match result.next:
        case Delivered(answer):
            return outcome_note(Asked.of(row), IntentInvoked(**about, result=answer))
        case GaveUp(reason, message):
            return outcome_note(Asked.of(row), InvocationFailed(**about, status="dead", reason=reason, message=message))
        case RetryAt() | Parked() | PutBack():
            return None
        case _:
            assert_never(result.next)

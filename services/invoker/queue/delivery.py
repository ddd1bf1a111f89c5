"""A delivery as the invoker works on it: one row of `invoker.deliveries`, read once into a typed record."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from services.invoker.outbox.notifications import Requester

SystemKey = tuple[str, str]
"""Channel and business system."""

RequestKey = tuple[str, str, str]
"""Account, channel and request id: one request, and one delivery."""


class Delivery(NamedTuple):
    """Its fields stand in the order of `DELIVERY_COLUMNS`, so that a selected row becomes one without a look-up."""

    id: str
    account: str
    channel: str
    request_id: str
    correlation_id: str
    system: str
    code: str
    body: bytes | None
    """The body of the call as bytes, fixed when the request was validated; None before."""
    attempts: int
    """All attempts so far, the one of the current lease included."""
    expires_at: datetime | None
    lease: UUID | None
    key_id: str | None
    """The newest signature of the last call."""
    cancel_reason: str | None
    """Why the delivery ends instead of being called: its channel was retired, or its system was deleted."""
    test: bool
    only_key_id: str | None
    """A test call: the one signature that it carries."""
    uncounted: int
    """Attempts that do not count: those that ended by our own fault, and those before the last replay."""
    attempts_before_replay: int
    replays: int
    traceparent: str | None
    to_listener: bool = False
    """A test call that goes to a listener instead of the system's URL."""

    @property
    def system_key(self) -> SystemKey:
        return self.channel, self.system

    @property
    def requester(self) -> Requester:
        return Requester(
            self.account,
            self.channel,
            self.request_id,
            self.correlation_id,
            self.replays,
            traceparent=self.traceparent,
        )


DELIVERY_COLUMNS = (
    "d.id, d.account, d.channel, d.request_id, d.correlation_id, d.system, d.code, d.body, d.attempts, d.expires_at, "
    "d.lease, d.key_id, d.reason, d.test, d.only_key_id, d.uncounted, d.attempts_before_replay, d.replays, "
    "d.traceparent, d.to_listener"
)
"""What a statement over ``invoker.deliveries d`` returns for `delivery_of`."""


def delivery_of(row: Any) -> Delivery:
    """A delivery from a row of exactly `DELIVERY_COLUMNS`."""
    return Delivery._make(row)

"""How a call can end, and the one function that decides what happens next. Pure: times come in as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from services.invoker.limits import Limits

HTTP_GONE = 410
_JITTER = 0.2


@dataclass(frozen=True, slots=True)
class Answered:
    """The receiver answered, with any status. ``result`` is the answer's JSON, None where it is no JSON.

    ``accepted_key`` is the signature that the receiver says it verified: a key id or a fingerprint.
    """

    status: int
    answer: bytes
    result: Any = None
    retry_after_s: float | None = None
    accepted_key: str | None = None

    @property
    def succeeded(self) -> bool:
        return 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Failed:
    """No answer. ``stage`` is where the call ended: address, connect, tls or answer."""

    stage: str
    error: str
    our_fault: bool = False
    """The fault is on our side and not held against the receiver."""
    detail: str | None = field(default=None, compare=False)
    """For the operator's log alone: what the account must not learn."""


CallResult = Answered | Failed


@dataclass(frozen=True, slots=True)
class Delivered:
    result: Any


@dataclass(frozen=True, slots=True)
class RetryAt:
    """``uncounted``: the attempt is not one of those that a request has."""

    when: datetime
    uncounted: bool = False


@dataclass(frozen=True, slots=True)
class GaveUp:
    """``reason`` is a stable name, ``message`` a sentence."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Parked:
    """No call was made: the system is disabled. The delivery continues when it is enabled."""


@dataclass(frozen=True, slots=True)
class Postponed:
    """No call was made: the system's signatures cannot be read yet, or its host has had its calls of this second."""

    when: datetime


NextStep = Delivered | RetryAt | GaveUp | Parked | Postponed


@dataclass(frozen=True, slots=True)
class RetryState:
    """The attempt that ended, and what limits further ones.

    ``counted`` and ``uncounted``: attempts since the request came or was replayed, this one included.
    """

    counted: int
    uncounted: int = 0
    expires_at: datetime | None = None
    test: bool = False
    """A test call is not retried."""


def next_step(result: CallResult, state: RetryState, *, now: datetime, jitter: float, limits: Limits) -> NextStep:
    """What happens after a call. ``jitter``, random from -1 to 1, spreads the delay."""
    if isinstance(result, Answered) and result.succeeded:
        return Delivered(result.result)
    if state.test:
        return GaveUp("TestCallFailed", f"The test call failed with {describe(result)}.")
    if isinstance(result, Answered) and result.status == HTTP_GONE:
        return GaveUp("EndpointGone", "The business system answered 410 Gone.")
    uncounted = isinstance(result, Failed) and result.our_fault and state.uncounted < limits.max_uncounted_attempts
    attempts = state.counted + state.uncounted
    if not uncounted and state.counted > len(limits.retry_delays):
        return GaveUp("RetriesExhausted", f"All {attempts} attempts failed, the last one with {describe(result)}.")
    delay = limits.retry_delays[min(attempts if uncounted else state.counted, len(limits.retry_delays)) - 1]
    delay = (min(delay, limits.max_uncounted_delay) if uncounted else delay) * (1 + _JITTER * jitter)
    if isinstance(result, Answered) and result.retry_after_s is not None:
        delay = max(delay, min(result.retry_after_s, limits.max_retry_after))
    when = now + timedelta(seconds=delay)
    if state.expires_at is not None and when >= state.expires_at:
        message = f"Its time to live ends before the next attempt; the last one: {describe(result)}."
        return GaveUp("TimeToLiveOver", message)
    return RetryAt(when, uncounted=uncounted)


def describe(result: CallResult) -> str:
    """How a call ended, in a few words and without any text of the receiver's."""
    return f"status {result.status}" if isinstance(result, Answered) else f"{result.stage}: {result.error}"


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds to wait, from a ``Retry-After`` header's seconds or HTTP date; None where it is neither."""
    if value is None:
        return None
    if value.isascii() and value.isdigit() and len(value) < 10:
        return float(value)
    try:
        when = parsedate_to_datetime(value)
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        return max(0.0, (when - now).total_seconds())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None

"""How an attempt can end, and the one function that says what happens next. Pure: times come in as data."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from services.invoker.pace import Pace

GONE = 410


@dataclass(frozen=True, slots=True)
class Answered:
    """The receiver answered, whatever it said; ``result`` is its JSON, where it is some.

    ``named_key`` is the signature that it says it verified (a key id or a fingerprint).
    """

    status: int
    answer: bytes
    result: Any = None
    retry_after_s: float | None = None
    named_key: str | None = None

    @property
    def succeeded(self) -> bool:
        return 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Failed:
    """No answer; ``stage`` is where it ended: address, connect, tls, send, answer."""

    stage: str
    error: str
    ours: bool = False
    """A fault on our side, which is not held against the receiver."""


@dataclass(frozen=True, slots=True)
class Delivered:
    result: Any


@dataclass(frozen=True, slots=True)
class RetryAt:
    """``excused``: the attempt does not count among those that a request has."""

    when: datetime
    excused: bool = False


@dataclass(frozen=True, slots=True)
class GaveUp:
    """``reason`` is a stable name, ``message`` a sentence."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Parked:
    """No call was made: the system is disabled, and it goes on when it is enabled."""


@dataclass(frozen=True, slots=True)
class PutBack:
    """No call was made: something of ours is not there yet."""

    when: datetime


Next = Delivered | RetryAt | GaveUp | Parked | PutBack


@dataclass(frozen=True, slots=True)
class Try:
    """The attempt that ended: its number among those that count (1, 2, …), and what limits the request.

    ``excused``: how many others did not count.
    """

    number: int
    excused: int = 0
    expires_at: datetime | None = None
    once: bool = False
    """A test call is not tried again."""


def what_next(ended: Answered | Failed, tried: Try, *, now: datetime, spread: float, pace: Pace) -> Next:
    """After an attempt. ``spread`` from -1 to 1, drawn at random, is the share of the jitter."""
    if isinstance(ended, Answered) and ended.succeeded:
        return Delivered(ended.result)
    if tried.once:
        return GaveUp("TestCallFailed", f"The test call failed with {said(ended)}.")
    if isinstance(ended, Answered) and ended.status == GONE:
        return GaveUp("EndpointGone", "The business system answered 410 Gone.")
    ours = isinstance(ended, Failed) and ended.ours and tried.excused < pace.excuses
    made = tried.number + tried.excused
    if not ours and tried.number > len(pace.retry_after):
        return GaveUp("RetriesExhausted", f"All {made} attempts failed, the last one with {said(ended)}.")
    wait = pace.retry_after[min(made if ours else tried.number, len(pace.retry_after)) - 1]
    wait = (min(wait, pace.longest_excused) if ours else wait) * (1 + 0.2 * spread)
    if isinstance(ended, Answered) and ended.retry_after_s is not None:
        wait = max(wait, min(ended.retry_after_s, pace.longest_retry_after))
    when = now + timedelta(seconds=wait)
    if tried.expires_at is not None and when >= tried.expires_at:
        return GaveUp("TimeToLiveOver", f"Its time to live ends before the next attempt; the last one: {said(ended)}.")
    return RetryAt(when, excused=ours)


def said(ended: Answered | Failed) -> str:
    """What came of a call, in a few words without anything that a receiver chose."""
    return f"status {ended.status}" if isinstance(ended, Answered) else f"{ended.stage}: {ended.error}"


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds to wait, from a ``Retry-After`` header's seconds or HTTP date; None for anything odd."""
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

"""How an attempt can end, and the one function that says what happens next."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

RETRY_AFTER_SECONDS = (5, 30, 120, 600, 1_800, 7_200, 18_000, 36_000)
"""Waits between attempts, each ± 20 %, so that receivers that fail together do not come back together."""

LONGEST_RETRY_AFTER_S = 24 * 60 * 60
_GONE = 410


@dataclass(frozen=True, slots=True)
class Answered:
    """The receiver answered, whatever it said; ``result`` is its JSON, where it is some."""

    status: int
    answer: bytes
    result: Any = None
    retry_after_s: float | None = None


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
    when: datetime


@dataclass(frozen=True, slots=True)
class GaveUp:
    """``reason`` is a stable name, ``message`` a sentence."""

    reason: str
    message: str


Next = Delivered | RetryAt | GaveUp


def what_next(
    ended: Answered | Failed,
    *,
    attempt: int,
    now: datetime,
    expires_at: datetime | None,
    waits: tuple[float, ...] = RETRY_AFTER_SECONDS,
    spread: float | None = None,
) -> Next:
    """After attempt number ``attempt`` (1, 2, …). ``spread`` from -1 to 1 is drawn at random where not given."""
    if isinstance(ended, Answered) and 200 <= ended.status < 300:
        return Delivered(ended.result)
    said = f"status {ended.status}" if isinstance(ended, Answered) else f"{ended.stage}: {ended.error}"
    if isinstance(ended, Answered) and ended.status == _GONE:
        return GaveUp("EndpointGone", "The business system answered 410 Gone.")
    if attempt > len(waits):
        return GaveUp("RetriesExhausted", f"All {attempt} attempts failed, the last one with {said}.")
    drawn = random.uniform(-1, 1) if spread is None else spread  # noqa: S311 -- jitter
    wait = waits[attempt - 1] * (1 + 0.2 * drawn)
    if isinstance(ended, Answered) and ended.retry_after_s is not None:
        wait = max(wait, min(ended.retry_after_s, LONGEST_RETRY_AFTER_S))
    when = now + timedelta(seconds=wait)
    if expires_at is not None and when >= expires_at:
        return GaveUp("TimeToLiveOver", f"Its time to live ends before the next attempt; the last one: {said}.")
    return RetryAt(when)

"""What happens after a call, from data."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.invoker.limits import DEFAULT_LIMITS
from services.invoker.results.circuit import CLOSED, circuit_after
from services.invoker.results.retry_policy import (
    Answered,
    Delivered,
    Failed,
    GaveUp,
    RetryAt,
    RetryState,
    next_step,
    retry_after,
)

NOW = datetime(2026, 11, 22, 8, tzinfo=UTC)
OURS = Failed("address", "its name could not be looked up at the moment", our_fault=True)
BROKEN = Failed("connect", "no connection")


def failed(status: int = 500, retry_after_s: float | None = None) -> Answered:
    return Answered(status, b"", retry_after_s=retry_after_s)


def next_after(ended: Answered | Failed, number: int = 1, jitter: float = 0, **state: object) -> object:
    return next_step(ended, RetryState(number, **state), now=NOW, jitter=jitter, limits=DEFAULT_LIMITS)  # type: ignore[arg-type]


def wait_of(found: object) -> float:
    assert isinstance(found, RetryAt)
    return (found.when - NOW).total_seconds()


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_success_is_delivered(status: int) -> None:
    assert next_after(Answered(status, b"", {"a": 1})) == Delivered({"a": 1})


@pytest.mark.parametrize("status", [100, 300, 301, 302, 307, 400, 401, 404, 408, 429, 500, 503])
def test_anything_else_is_tried_again(status: int) -> None:
    assert wait_of(next_after(failed(status))) == 5


def test_the_waits_and_their_end() -> None:
    waits = [wait_of(next_after(BROKEN, number)) for number in range(1, 9)]
    assert waits == [5, 30, 2 * 60, 10 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600]
    gave_up = next_after(BROKEN, 9)
    assert isinstance(gave_up, GaveUp)
    assert gave_up.reason == "RetriesExhausted"


@given(st.integers(1, 8), st.floats(-1, 1))
def test_jitter_stays_within_a_fifth(number: int, jitter: float) -> None:
    wait = DEFAULT_LIMITS.retry_delays[number - 1]
    assert wait * 0.8 - 1e-3 <= wait_of(next_after(BROKEN, number, jitter)) <= wait * 1.2 + 1e-3


@given(st.integers(1, 8), st.floats(0, 1e9))
def test_retry_after_may_only_delay_and_is_capped(number: int, asked: float) -> None:
    own = wait_of(next_after(failed(503), number))
    wait = wait_of(next_after(failed(503, asked), number))
    assert own <= wait <= max(own, DEFAULT_LIMITS.max_retry_after)
    assert wait >= min(asked, DEFAULT_LIMITS.max_retry_after) - 1e-3


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("120", 120),
        ("0", 0),
        ("-5", None),
        ("1e9", None),
        ("NaN", None),
        ("inf", None),
        ("٣", None),
        ("9" * 400, None),
        ("", None),
        ("soon", None),
        ("Sun, 22 Nov 2026 08:01:00 GMT", 60),
        ("Sun, 22 Nov 2026 07:00:00 GMT", 0),
        ("Sun, 22 Nov 2026 08:01:00", 60),
        ("Mon, 99 Foo 99999 99:99:99 GMT", None),
        ("1;2", None),
    ],
)
def test_retry_after_is_read_or_ignored(text: str | None, seconds: float | None) -> None:
    assert retry_after(text, NOW) == seconds


@given(st.text())
def test_no_retry_after_breaks_anything(text: str) -> None:
    found = retry_after(text, NOW)
    assert found is None or found >= 0


def test_410_ends_it() -> None:
    gave_up = next_after(failed(410))
    assert isinstance(gave_up, GaveUp)
    assert gave_up.reason == "EndpointGone"


def test_a_time_to_live_ends_it_before_a_retry_that_would_come_too_late() -> None:
    gave_up = next_after(failed(), expires_at=NOW + timedelta(seconds=4))
    assert isinstance(gave_up, GaveUp)
    assert gave_up.reason == "TimeToLiveOver"
    assert wait_of(next_after(failed(), expires_at=NOW + timedelta(seconds=6))) == 5


def test_a_test_call_is_made_once() -> None:
    gave_up = next_after(failed(), test=True)
    assert isinstance(gave_up, GaveUp)
    assert gave_up.reason == "TestCallFailed"


def test_our_own_fault_does_not_count() -> None:
    found = next_after(OURS, 9)
    assert isinstance(found, RetryAt)
    assert found.uncounted
    assert circuit_after(CLOSED, OURS, NOW, DEFAULT_LIMITS) == CLOSED


def test_our_own_faults_do_not_count_up_to_a_limit() -> None:
    waits = [wait_of(next_after(OURS, 1, uncounted=count)) for count in range(6)]
    assert waits == [5, 30, 120, 120, 120, 120]
    assert next_after(OURS, 9, uncounted=DEFAULT_LIMITS.max_uncounted_attempts - 1) == RetryAt(
        NOW + timedelta(seconds=120), uncounted=True
    )
    counted = next_after(OURS, 1, uncounted=DEFAULT_LIMITS.max_uncounted_attempts)
    assert isinstance(counted, RetryAt)
    assert not counted.uncounted
    assert isinstance(next_after(OURS, 9, uncounted=DEFAULT_LIMITS.max_uncounted_attempts), GaveUp)

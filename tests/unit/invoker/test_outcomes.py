"""What happens after an attempt, after many, and when a circuit opens: all from data."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.invoker.circuit import CLOSED, Circuit, after, why_disable
from services.invoker.outcomes import Answered, Delivered, Failed, GaveUp, RetryAt, Try, retry_after, what_next
from services.invoker.pace import PACE

NOW = datetime(2026, 11, 22, 8, tzinfo=UTC)
OURS = Failed("address", "its name could not be looked up at the moment", ours=True)
BROKEN = Failed("connect", "no connection")


def failed(status: int = 500, retry_after_s: float | None = None) -> Answered:
    return Answered(status, b"", retry_after_s=retry_after_s)


def next_after(ended: Answered | Failed, number: int = 1, spread: float = 0, **limits: object) -> object:
    return what_next(ended, Try(number, **limits), now=NOW, spread=spread, pace=PACE)  # type: ignore[arg-type]


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
def test_jitter_stays_within_a_fifth(number: int, spread: float) -> None:
    wait = PACE.retry_after[number - 1]
    assert wait * 0.8 - 1e-3 <= wait_of(next_after(BROKEN, number, spread)) <= wait * 1.2 + 1e-3


@given(st.integers(1, 8), st.floats(0, 1e9))
def test_retry_after_may_only_delay_and_is_capped(number: int, asked: float) -> None:
    own = wait_of(next_after(failed(503), number))
    wait = wait_of(next_after(failed(503, asked), number))
    assert own <= wait <= max(own, PACE.longest_retry_after)
    assert wait >= min(asked, PACE.longest_retry_after) - 1e-3


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
    gave_up = next_after(failed(), once=True)
    assert isinstance(gave_up, GaveUp)
    assert gave_up.reason == "TestCallFailed"


def test_a_fault_of_ours_does_not_count() -> None:
    found = next_after(OURS, 9)
    assert isinstance(found, RetryAt)
    assert found.excused
    assert after(CLOSED, OURS, NOW, PACE) == CLOSED


def test_faults_of_ours_are_excused_so_often_and_then_count() -> None:
    waits = [wait_of(next_after(OURS, 1, excused=excused)) for excused in range(6)]
    assert waits == [5, 30, 120, 120, 120, 120]
    assert next_after(OURS, 9, excused=PACE.excuses - 1) == RetryAt(NOW + timedelta(seconds=120), excused=True)
    counted = next_after(OURS, 1, excused=PACE.excuses)
    assert isinstance(counted, RetryAt)
    assert not counted.excused
    assert isinstance(next_after(OURS, 9, excused=PACE.excuses), GaveUp)


def run(circuit: Circuit, count: int, now: datetime = NOW) -> Circuit:
    for _ in range(count):
        circuit = after(circuit, BROKEN, now, PACE)
    return circuit


def probe(circuit: Circuit) -> Circuit:
    """As the claim of a probe leaves it."""
    return replace(circuit, probing=True, open_until=NOW + timedelta(seconds=PACE.lease))


def test_a_circuit_opens_after_ten_failures_in_a_row() -> None:
    assert run(CLOSED, 9).open_until is None
    opened = run(CLOSED, 10)
    assert opened.open_until == NOW + timedelta(seconds=30)
    assert opened.openings == 1
    assert run(after(run(CLOSED, 9), Answered(204, b""), NOW, PACE), 9).open_until is None


def test_calls_in_flight_do_not_hold_it_open() -> None:
    opened = run(CLOSED, 10)
    later = run(opened, 5, NOW + timedelta(seconds=20))
    assert (later.open_until, later.openings) == (opened.open_until, 1)


def test_each_failed_probe_doubles_the_wait_up_to_a_quarter_of_an_hour() -> None:
    circuit = run(CLOSED, 10)
    waits = []
    for _ in range(8):
        circuit = after(probe(circuit), BROKEN, NOW, PACE)
        assert circuit.open_until is not None
        assert not circuit.probing
        waits.append((circuit.open_until - NOW).total_seconds())
    assert waits == [60, 120, 240, 480, 900, 900, 900, 900]
    assert after(probe(circuit), Answered(200, b""), NOW, PACE) == CLOSED


def test_a_probe_that_failed_for_our_fault_is_made_again() -> None:
    circuit = after(probe(run(CLOSED, 10)), OURS, NOW, PACE)
    assert (circuit.probing, circuit.open_until, circuit.openings) == (False, NOW, 1)


def test_410_and_five_days_of_failure_disable() -> None:
    assert why_disable(run(CLOSED, 1), failed(410), NOW, PACE) == "The business system answered 410 Gone."
    failing = run(CLOSED, 10)
    soon, late = NOW + timedelta(days=4, hours=23), NOW + timedelta(days=5)
    assert why_disable(failing, failed(), soon, PACE) is None
    reason = why_disable(failing, failed(), late, PACE)
    assert reason is not None
    assert "status 500" in reason
    asked = replace(failing, disable_asked_at=late)
    assert why_disable(asked, failed(), late + timedelta(minutes=5), PACE) is None
    assert why_disable(asked, failed(), late + timedelta(minutes=11), PACE) is not None


def test_a_few_failures_far_apart_disable_nothing() -> None:
    assert why_disable(run(CLOSED, 2), failed(), NOW + timedelta(days=30), PACE) is None

"""When a circuit opens and closes, and when a system is disabled, from data."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from services.invoker.limits import DEFAULT_LIMITS
from services.invoker.results.circuit import CLOSED, Circuit, circuit_after, disable_reason
from services.invoker.results.retry_policy import (
    Answered,
    Failed,
)

NOW = datetime(2026, 11, 22, 8, tzinfo=UTC)
OURS = Failed("address", "its name could not be looked up at the moment", our_fault=True)
BROKEN = Failed("connect", "no connection")


def failed(status: int = 500, retry_after_s: float | None = None) -> Answered:
    return Answered(status, b"", retry_after_s=retry_after_s)


def run(circuit: Circuit, count: int, now: datetime = NOW) -> Circuit:
    for _ in range(count):
        circuit = circuit_after(circuit, BROKEN, now, DEFAULT_LIMITS)
    return circuit


def probe(circuit: Circuit) -> Circuit:
    """As the claim of a probe leaves it."""
    return replace(circuit, probing=True, open_until=NOW + timedelta(seconds=DEFAULT_LIMITS.lease_duration))


def test_a_circuit_opens_after_ten_failures_in_a_row() -> None:
    assert run(CLOSED, 9).open_until is None
    opened = run(CLOSED, 10)
    assert opened.open_until == NOW + timedelta(seconds=30)
    assert opened.openings == 1
    assert run(circuit_after(run(CLOSED, 9), Answered(204, b""), NOW, DEFAULT_LIMITS), 9).open_until is None


def test_failures_of_calls_in_flight_do_not_extend_an_open_circuit() -> None:
    opened = run(CLOSED, 10)
    later = run(opened, 5, NOW + timedelta(seconds=20))
    assert (later.open_until, later.openings) == (opened.open_until, 1)


def test_each_failed_probe_doubles_the_wait_up_to_a_quarter_of_an_hour() -> None:
    circuit = run(CLOSED, 10)
    waits = []
    for _ in range(8):
        circuit = circuit_after(probe(circuit), BROKEN, NOW, DEFAULT_LIMITS)
        assert circuit.open_until is not None
        assert not circuit.probing
        waits.append((circuit.open_until - NOW).total_seconds())
    assert waits == [60, 120, 240, 480, 900, 900, 900, 900]
    assert circuit_after(probe(circuit), Answered(200, b""), NOW, DEFAULT_LIMITS) == CLOSED


def test_a_probe_that_fails_by_our_own_fault_is_repeated() -> None:
    circuit = circuit_after(probe(run(CLOSED, 10)), OURS, NOW, DEFAULT_LIMITS)
    assert (circuit.probing, circuit.open_until, circuit.openings) == (False, NOW, 1)


def test_410_and_five_days_of_failure_disable() -> None:
    assert disable_reason(run(CLOSED, 1), failed(410), NOW, DEFAULT_LIMITS) == "The business system answered 410 Gone."
    failing = run(CLOSED, 10)
    soon, late = NOW + timedelta(days=4, hours=23), NOW + timedelta(days=5)
    assert disable_reason(failing, failed(), soon, DEFAULT_LIMITS) is None
    reason = disable_reason(failing, failed(), late, DEFAULT_LIMITS)
    assert reason is not None
    assert "status 500" in reason
    asked = replace(failing, disable_asked_at=late)
    assert disable_reason(asked, failed(), late + timedelta(minutes=5), DEFAULT_LIMITS) is None
    assert disable_reason(asked, failed(), late + timedelta(minutes=11), DEFAULT_LIMITS) is not None


def test_a_few_failures_far_apart_disable_nothing() -> None:
    assert disable_reason(run(CLOSED, 2), failed(), NOW + timedelta(days=30), DEFAULT_LIMITS) is None

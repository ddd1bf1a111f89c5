"""The circuit breaker of a system, and when the invoker disables it. Pure: times come in as data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from services.invoker.limits import DAY_S, Limits
from services.invoker.results.retry_policy import HTTP_GONE, Answered, CallResult, Failed, describe


@dataclass(frozen=True, slots=True)
class Circuit:
    """A system's failures in a row.

    Closed while ``open_until`` is None, open until then. After it one call is a probe, and its result decides.
    """

    failures: int = 0
    openings: int = 0
    open_until: datetime | None = None
    probing: bool = False
    failing_since: datetime | None = None
    disable_asked_at: datetime | None = None
    """When `DisableBusinessSystem` was sent last."""


CLOSED = Circuit()


def circuit_after(circuit: Circuit, result: CallResult, now: datetime, limits: Limits) -> Circuit:
    """The circuit after a call. A success closes it; a fault of our own says nothing about the system."""
    if isinstance(result, Answered) and result.succeeded:
        return CLOSED
    if isinstance(result, Failed) and result.our_fault:
        return replace(circuit, probing=False, open_until=now) if circuit.probing else circuit
    failed = replace(circuit, failures=circuit.failures + 1, failing_since=circuit.failing_since or now)
    opens = failed.failures >= limits.failures_to_open and (failed.open_until is None or failed.probing)
    if not opens:
        return failed  # calls that were in flight when it opened do not extend it
    duration = min(limits.open_duration * 2 ** min(failed.openings, 30), limits.max_open_duration)
    open_until = now + timedelta(seconds=duration)
    return replace(failed, openings=failed.openings + 1, open_until=open_until, probing=False)


def disable_reason(circuit: Circuit, result: CallResult, now: datetime, limits: Limits) -> str | None:
    """Why the system is to be disabled after a call, as a sentence; None where it is not.

    ``circuit`` is the one after the call. A command that was sent lately may still be on its way, and is not repeated.
    """
    sent_at = circuit.disable_asked_at
    if sent_at is not None and (now - sent_at).total_seconds() < limits.disable_again_after:
        return None
    if isinstance(result, Answered) and result.status == HTTP_GONE:
        return "The business system answered 410 Gone."
    since = circuit.failing_since
    if since is None or circuit.failures < limits.failures_to_open:
        return None
    failing_s = (now - since).total_seconds()
    if failing_s < limits.disable_after:
        return None
    return (
        f"Every call since {since:%Y-%m-%d %H:%M} UTC failed ({circuit.failures} in {failing_s / DAY_S:.0f} days); "
        f"the last one: {describe(result)}."
    )

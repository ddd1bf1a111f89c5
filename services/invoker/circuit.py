"""The circuit breaker of a system, and when the invoker asks to disable it. Pure: times come in as data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from services.invoker.outcomes import GONE, Answered, Failed, said
from services.invoker.pace import DAY_S, Pace


@dataclass(frozen=True, slots=True)
class Circuit:
    """What is known of a system's failures in a row.

    Closed while ``open_until`` is None; open until then; after it one call probes (``probing``), and its end decides.
    """

    failures: int = 0
    openings: int = 0
    open_until: datetime | None = None
    probing: bool = False
    failing_since: datetime | None = None
    disable_asked_at: datetime | None = None


CLOSED = Circuit()


def after(circuit: Circuit, ended: Answered | Failed, now: datetime, pace: Pace) -> Circuit:
    """The circuit after a call ended. A success closes it; a fault of ours says nothing about the system."""
    if isinstance(ended, Answered) and ended.succeeded:
        return CLOSED
    if isinstance(ended, Failed) and ended.ours:
        return replace(circuit, probing=False, open_until=now) if circuit.probing else circuit
    failed = replace(circuit, failures=circuit.failures + 1, failing_since=circuit.failing_since or now)
    opens = failed.failures >= pace.break_after and (failed.open_until is None or failed.probing)
    if not opens:
        return failed  # calls that were in flight when it opened do not hold it open
    wait = min(pace.open_for * 2 ** min(failed.openings, 30), pace.longest_open)
    return replace(failed, openings=failed.openings + 1, open_until=now + timedelta(seconds=wait), probing=False)


def why_disable(circuit: Circuit, ended: Answered | Failed, now: datetime, pace: Pace) -> str | None:
    """The reason to ask for `DisableBusinessSystem` after a call, as a sentence; None where there is none.

    ``circuit`` is the one after the call. Asked again only after a while: the first command may be on its way.
    """
    asked = circuit.disable_asked_at
    if asked is not None and (now - asked).total_seconds() < pace.ask_again_after:
        return None
    if isinstance(ended, Answered) and ended.status == GONE:
        return "The business system answered 410 Gone."
    since = circuit.failing_since
    if since is None or circuit.failures < pace.break_after:
        return None
    failing = (now - since).total_seconds()
    if failing < pace.disable_after:
        return None
    return (
        f"Every call since {since:%Y-%m-%d %H:%M} UTC failed ({circuit.failures} in {failing / DAY_S:.0f} days); "
        f"the last one: {said(ended)}."
    )

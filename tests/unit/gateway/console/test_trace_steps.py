"""What became of a command or a request: its steps in order, from records of the history and of calls."""

from __future__ import annotations

from typing import Any

from contracts.ids import uuid7
from contracts.message import rfc3339
from services.gateway.console.views.traces import steps

_T = 1_795_000_000_000


def _at(milliseconds: int) -> str:
    return rfc3339(_T + milliseconds)


def _call(**about: Any) -> dict[str, Any]:
    return {"id": "d", "created_at": _at(20), "ended_at": None, "attempt_log": [], **about}


def test_a_command_of_ours_is_sent_when_its_id_was_made_and_its_events_follow_by_version() -> None:
    events = [{"type": name, "time": _at(12), "version": version} for version, name in ((5, "B"), (4, "A"))]
    found = steps(uuid7(_T, bytes(10)), events, [])
    assert [(one.kind, one.about.get("type"), one.after_ms) for one in found] == [
        ("sent", None, 0),
        ("entry", "A", 12),
        ("entry", "B", 12),
    ]


def test_an_id_of_somebody_else_has_no_time() -> None:
    (step,) = steps("order-1001", [{"rejection": "SystemUnknown", "time": _at(3)}], [])
    assert (step.kind, step.at, step.after_ms) == ("entry", _at(3), 0)


def test_an_id_whose_time_no_calendar_has_has_no_time() -> None:
    (step,) = steps(uuid7(2**48 - 1, bytes(10)), [{"rejection": "SystemUnknown", "time": _at(3)}], [])
    assert step.kind == "entry"


def test_a_call_is_asked_for_tried_and_ends() -> None:
    attempts = [{"number": number, "started_at": _at(20 + number)} for number in (1, 2)]
    found = steps("order-1001", [], [_call(attempt_log=attempts, ended_at=_at(23))])
    assert [(one.kind, one.after_ms) for one in found] == [("asked", 0), ("attempt", 1), ("attempt", 2), ("ended", 3)]
    assert found[1].about["call"]["id"] == "d"


def test_a_call_that_goes_on_has_no_end() -> None:
    assert [one.kind for one in steps("order-1001", [], [_call()])] == ["asked"]

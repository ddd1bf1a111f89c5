"""A thread that computes gives the interpreter to the event loop sooner than Python has it by default."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from services.infrastructure.threads import SWITCH_INTERVAL_S, favour_event_loop


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


def test_a_thread_that_computes_gives_the_interpreter_up_soon() -> None:
    favour_event_loop()

    assert sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL_S)
    assert SWITCH_INTERVAL_S <= 0.001

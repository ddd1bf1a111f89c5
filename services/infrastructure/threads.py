"""Threads that compute beside an event loop."""

from __future__ import annotations

import sys

SWITCH_INTERVAL_S = 0.0005
"""How long an event loop waits for each of its turns while a thread computes; Python's default is 5 ms."""


def favour_event_loop() -> None:
    """For a service that computes in threads: a request waits for the interpreter some ten times."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)

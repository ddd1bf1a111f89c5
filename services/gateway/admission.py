"""Turns at having a credential checked, before it is known whose it is.

The check is a query that requests share, and costs each little. But of 64 connections that ask at once all would be
served in each pass of the event loop, and everybody else's request needs several passes. So a request waits in the line
of whoever its credential stood for last, and one whose credential is new here in that of its address.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from services.gateway.client_network import network_of
from services.infrastructure.fair_queue import FairQueue

CHECKS, CHECKS_PER_ACCOUNT, CHECKS_BESIDE_OTHERS = 16, 8, 2
"""At once."""
WAITING = 100_000
"""More than there are connections: after a restart everybody is new here, and behind one proxy of one address."""
_REMEMBERED = 10_000


class Admission:
    """Whom a credential stood for says where it waits, and nothing about what it may: it is checked each time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._queue = FairQueue(CHECKS, CHECKS_PER_ACCOUNT, WAITING, CHECKS_BESIDE_OTHERS, clock)
        self._payers: dict[int, str] = {}
        """By the hash of the whole credential: who does not know it cannot stand in its line."""

    def turn(self, token: str, address: str | None) -> AbstractAsyncContextManager[None]:
        """Waits for a turn, and holds it. Raises `QueueFull`."""
        payer = self._payers.get(hash(token))
        return self._queue.turn(f"from {network_of(address)}" if payer is None else payer)

    def admitted(self, token: str, payer: str | None) -> None:
        """Remembers whom the credential stands for; None is the platform."""
        if len(self._payers) >= _REMEMBERED:
            self._payers.clear()
        self._payers[hash(token)] = payer or ""

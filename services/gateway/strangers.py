"""Requests without a checked credential: a rate for each address, and few turns for all.

Their turns are apart from those of accounts: a probe each second would else be company to an account that is alone, and
take two of its three turns. An IPv6 address stands for its network of 64 bits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from starlette.requests import Request

from services.gateway.client_network import network_of
from services.gateway.limits import BURST_S, RateLimit
from services.gateway.problems import Problem
from services.gateway.request_memory import begin_turn
from services.infrastructure.byte_budget import ByteBudget
from services.infrastructure.fair_queue import FairQueue, Turn

TURNS, TURNS_PER_ADDRESS, WAITING_PER_ADDRESS = 2, 1, 64
LOG_ONS_PER_ADDRESS, LOG_ON_BURST_S = 5, 20
"""Attempts a second; after some quiet seconds as many at once as in `LOG_ON_BURST_S`."""

_MIB = 1024 * 1024


class Strangers:
    """Those of one gateway. Whoever is recognised waits for a turn of his account's, among ``work``."""

    def __init__(self, per_address: int, work: FairQueue, clock: Callable[[], float] = time.monotonic) -> None:
        self._work = work
        unread = ByteBudget(4 * _MIB, 16 * _MIB, reserve=8 * _MIB, share=_MIB)
        self._queue = FairQueue(TURNS, TURNS_PER_ADDRESS, WAITING_PER_ADDRESS, clock=clock, budget=unread)
        self._requests = RateLimit("address", per_address * BURST_S, BURST_S, clock)
        self._log_ons = RateLimit("log-ons", LOG_ONS_PER_ADDRESS * LOG_ON_BURST_S, LOG_ON_BURST_S, clock)

    def count(self, address: str | None) -> None:
        """Counts a request. Raises `Problem`."""
        _take(self._requests, network_of(address), "requests without a credential")

    def count_log_on(self, address: str | None) -> None:
        """Counts an attempt to log on. Raises `Problem`."""
        _take(self._log_ons, network_of(address), "attempts to log on")

    async def begin(self, turn: Turn, address: str | None) -> None:
        """Waits for a turn of the address. Raises `Problem`."""
        turn.leave_for(self._queue)
        await begin_turn(turn, network_of(address), 0)

    def recognised(self, turn: Turn, address: str | None) -> None:
        """Takes back what was counted, and ends the turn: the next one that it begins is an account's."""
        self._requests.take(network_of(address), -1)
        turn.leave_for(self._work)


def strangers_of(request: Request) -> Strangers:
    strangers: Strangers = request.app.state.strangers
    return strangers


def client_address(request: Request) -> str | None:
    """The client's address; behind a trusted proxy, the one that the proxy states."""
    return request.client.host if request.client else None


def _take(rate: RateLimit, network: str, what: str) -> None:
    if wait_s := rate.wait_s(network):
        detail = f"Too many {what} came from this address; wait for the seconds of Retry-After."
        raise Problem(429, "TooManyRequests", detail, retry_after_s=math.ceil(wait_s))
    rate.take(network)

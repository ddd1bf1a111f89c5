"""How many calls a second one host gets from all accounts: nobody can flood it through many of them."""

from __future__ import annotations

import time
from collections.abc import Callable

BURST_S = 1.0
"""A host that was quiet may get the calls of so long at once."""
_FORGET_ABOVE = 10_000
_ROUNDING_S = 1e-6

HostAndAccount = tuple[str, str]


class HostRate:
    """Counts in the memory of one process. Accounts that call the same host share its rate equally.

    A call that is one too many is told when to come back. These times are `1 / rate` apart, so that what is postponed
    comes back at the rate at which it can be made.
    """

    def __init__(self, per_second: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s, self._clock = 1 / per_second, clock
        self._hosts: dict[str, float] = {}
        """When all calls of a host would have been made at its rate."""
        self._shares: dict[str, dict[str, float]] = {}
        """The same by account, at its share of the rate."""
        self._postponed: dict[HostAndAccount, float] = {}
        """Until when calls are postponed already."""

    def take(self, host: str, account: str) -> float:
        """Returns 0.0 if the call may be made now, and counts it; else the seconds to postpone it by."""
        now = self._clock()
        if len(self._hosts) + len(self._postponed) > _FORGET_ABOVE:
            self._forget(now)
        shares = self._shares.setdefault(host, {})
        for idle in [one for one, busy_until in shares.items() if busy_until <= now]:
            del shares[idle]
        interval_s = self._interval_s * len(shares.keys() | {account})
        busy_until, share_until = self._hosts.get(host, now), shares.get(account, now)
        host_is_free = busy_until + self._interval_s <= now + BURST_S + _ROUNDING_S
        if host_is_free and share_until <= now + max(0.0, BURST_S - interval_s) + _ROUNDING_S:
            self._hosts[host] = max(busy_until, now) + self._interval_s
            shares[account] = max(share_until, now) + interval_s
            return 0.0
        key = host, account
        until = max(self._postponed.get(key, now), busy_until - BURST_S, share_until - BURST_S, now) + interval_s
        self._postponed[key] = until
        return until - now

    def _forget(self, now: float) -> None:
        self._hosts = {host: until for host, until in self._hosts.items() if until > now}
        self._shares = {host: shares for host, shares in self._shares.items() if host in self._hosts}
        self._postponed = {key: until for key, until in self._postponed.items() if until > now}

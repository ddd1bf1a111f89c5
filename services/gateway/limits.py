"""What one account and one gateway may use: requests a second, connections, streams, long polls, test calls, replays.

The counts are each gateway's own, in its memory. `docs/limits.md` has the figures.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from services.gateway.problems import Problem
from services.infrastructure.config import Settings

MAX_BODY_BYTES = 512 * 1024
MAX_RATE_BOOK_BYTES = 4 * 1024 * 1024
"""Of the platform's `PUT /v1/rates`: a whole rate book."""
MAX_LOG_ON_BYTES = 16 * 1024
"""Of the form with which a stranger logs on."""
BODY_TIMEOUT_S = 30.0
BURST_S = 10
"""A key or account that was quiet may use the requests of so many seconds at once."""

_FORGET_ABOVE = 10_000
_ROUNDING_S = 1e-6
"""Sums of thirds of a second, and the like, miss a whole by less."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one gateway. Requests are per second; streams of all accounts take at most half the connections."""

    requests_per_key: int = 200
    requests_per_account: int = 400
    requests_per_address: int = 100
    """Without a checked credential."""
    connections: int = 8_000
    streams_per_account: int = 2_000
    long_polls_per_account: int = 200
    channels_per_account: int = 10_000
    test_calls_per_account: int = 5
    """At a time."""
    replays_per_account: int = 10_000
    """A minute."""
    stored_bytes_per_account: int = 10_000_000_000
    """Of deliveries; the invoker deletes and refuses, the gateway only says so."""
    early_statuses_per_account: int = 10_000
    """Of messages that are not known, a day: each is kept for 7 days."""

    @staticmethod
    def of(settings: Settings, open_files: int) -> Limits:
        """Takes the settings, and lowers what the process has not enough files for."""
        connections = min(settings.http_connections, max(open_files - 200, open_files // 2))
        return Limits(
            settings.http_requests_per_key,
            settings.http_requests_per_account,
            settings.http_requests_per_address,
            connections,
            min(settings.http_streams_per_account, connections // 4),
            min(settings.http_long_polls_per_account, connections // 4),
            settings.http_channels_per_account,
            settings.http_test_calls_per_account,
            settings.http_replays_per_account,
            settings.delivery_megabytes_per_account * 1_000_000,
        )

    @property
    def streams(self) -> int:
        return self.connections // 2

    @property
    def long_polls(self) -> int:
        return self.connections // 4


class RateLimit:
    """Token buckets of one policy, by key or account. A bucket holds ``quota`` tokens, and fills in ``window_s``."""

    def __init__(self, policy: str, quota: int, window_s: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._policy, self._quota, self._window_s, self._clock = policy, quota, window_s, clock
        self._interval_s = window_s / quota
        self._full_at: dict[str, float] = {}
        """The time at which a bucket is full again. One that is full already need not be kept."""
        self.policy_field = f'"{policy}";q={self._quota};w={window_s}'

    def wait_s(self, name: str) -> float:
        """Returns the seconds until the bucket has a token: 0 if it has one now."""
        full_in = self._full_at.get(name, 0.0) - self._clock()
        wait_s = full_in - self._window_s + self._interval_s
        return wait_s if wait_s > _ROUNDING_S else 0.0

    def take(self, name: str, count: int = 1) -> None:
        """Takes tokens, without a check. A negative count gives them back."""
        now = self._clock()
        if len(self._full_at) > _FORGET_ABOVE:
            self._full_at = {one: full_at for one, full_at in self._full_at.items() if full_at > now}
        self._full_at[name] = max(self._full_at.get(name, 0.0), now) + count * self._interval_s

    def remaining(self, name: str) -> int:
        full_in = max(0.0, self._full_at.get(name, 0.0) - self._clock())
        return max(0, math.floor(self._quota - (full_in - _ROUNDING_S) / self._interval_s))

    def field(self, name: str) -> str:
        """Returns the policy's item of the header RateLimit: what remains, and the seconds until all is there again."""
        full_in = max(0.0, self._full_at.get(name, 0.0) - self._clock())
        return f'"{self._policy}";r={self.remaining(name)};t={math.ceil(full_in)}'


class RateLimits:
    """The request rates of keys and accounts. Headers follow draft-ietf-httpapi-ratelimit-headers-10."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._keys = RateLimit("key", limits.requests_per_key * BURST_S, BURST_S, clock)
        self._accounts = RateLimit("account", limits.requests_per_account * BURST_S, BURST_S, clock)
        self._policy = f"{self._keys.policy_field}, {self._accounts.policy_field}".encode()

    def take(self, key_id: str, account: str) -> float:
        """Counts a request. Returns 0, or the seconds to wait if it is one too many, which then is not counted."""
        wait_s = max(self._keys.wait_s(key_id), self._accounts.wait_s(account))
        if wait_s == 0.0:
            self._keys.take(key_id)
            self._accounts.take(account)
        return wait_s

    def headers(self, key_id: str, account: str) -> list[tuple[bytes, bytes]]:
        state = f"{self._keys.field(key_id)}, {self._accounts.field(account)}"
        return [(b"ratelimit-policy", self._policy), (b"ratelimit", state.encode())]


class Places:
    """Counts what goes on at the same time, such as long polls, for each account and in all."""

    def __init__(self, name: str, per_account: int, in_all: int, problem: str = "TooManyFollowers") -> None:
        self._name, self._per_account, self._in_all, self._problem = name, per_account, in_all, problem
        self._taken: Counter[str | None] = Counter()

    @contextmanager
    def taken(self, account: str | None) -> Iterator[None]:
        """Holds a place; None is the platform, without a limit of its own. Raises `Problem` if there is none left."""
        if account is not None and self._taken[account] >= self._per_account:
            detail = f"An account may have {self._per_account:,} {self._name} at a time on a gateway; end one first."
            raise Problem(429, self._problem, detail, retry_after_s=5)
        if self._taken.total() >= self._in_all:
            detail = f"This gateway cannot serve more {self._name}; try again shortly."
            raise Problem(503, self._problem, detail, retry_after_s=5)
        self._taken[account] += 1
        try:
            yield
        finally:
            self._taken[account] -= 1
            if not self._taken[account]:
                del self._taken[account]

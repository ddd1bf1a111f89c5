"""Every number of the invoker that limits, delays or repeats something."""

from __future__ import annotations

from dataclasses import dataclass

from services.infrastructure.config import Settings

DAY_S = 24 * 60 * 60


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds unless the name says otherwise."""

    retry_delays: tuple[float, ...] = (5, 30, 120, 600, 1_800, 7_200, 18_000, 36_000)
    """Between attempts, each ± 20 %, so that receivers that fail together are not called again together."""
    max_retry_after: float = DAY_S
    """A receiver's ``Retry-After`` may only lengthen a delay, up to this."""
    max_uncounted_attempts: int = 60
    """Attempts of one request that end by our own fault do not count, up to so many: so every request ends."""
    max_uncounted_delay: float = 120.0
    """The longest delay after an attempt that does not count: the receiver is not to blame for it."""

    connect_timeout: float = 5.0
    """For the name's look-up, and again for the connection with its TLS handshake."""
    call_timeout: float = 15.0
    """Of a whole call, the answer's body included."""
    lease_duration: float = 40.0
    """Longer than a call and the recording of its result can take: a lease that ends means a lost worker."""

    max_calls: int = 512
    """Calls in flight in one process."""
    max_retries: int = 384
    """Of these, retries; the rest is reserved for first attempts."""
    max_first_attempts: int = 448
    """Of these, first attempts; the rest is reserved for retries."""
    max_calls_per_system: int = 16

    unverified_interval: float = 6.0
    """Between the calls of a system that has not answered 2xx yet; they are one at a time."""
    calls_per_host: int = 200
    """A second, of all accounts, in one process."""

    ingest_wait: float = 0.5
    """How long new requests wait for free slots, to be called at once; then they are queued."""

    failures_to_open: int = 10
    """So many failures in a row open a circuit."""
    open_duration: float = 30.0
    """How long a circuit is open the first time; twice as long after each probe that fails."""
    max_open_duration: float = 900.0
    disable_after: float = 5 * DAY_S
    """A system all of whose calls fail for so long is disabled."""
    disable_again_after: float = 600.0
    """When `DisableBusinessSystem` is sent again, while the system is still enabled."""

    transaction_timeout: float = 15.0
    """A connection to a database that died may block, and the driver would wait for a minute."""
    settings_version_wait: float = 10.0
    """How long a request waits for the ``settings_version`` that it names."""
    retention_days: int = 30
    """How long the delivery log shows deliveries that have ended."""
    max_stored_bytes: int = 10_000_000_000
    """Of an account's deliveries: requests, bodies and answers."""

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        default = cls()
        return cls(
            retry_delays=settings.invoker_retry_seconds or default.retry_delays,
            retention_days=settings.delivery_log_days,
            unverified_interval=60 / settings.invoker_unverified_calls_per_minute,
            max_stored_bytes=settings.delivery_megabytes_per_account * 1_000_000,
            calls_per_host=settings.invoker_calls_per_host,
        )


DEFAULT_LIMITS = Limits()

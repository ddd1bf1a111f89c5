"""How fast, how long, how often: every number of the invoker in one place."""

from __future__ import annotations

from dataclasses import dataclass

from services.infrastructure.settings import Settings

DAY_S = 24 * 60 * 60


@dataclass(frozen=True, slots=True)
class Pace:
    """Times in seconds unless the name says otherwise."""

    retry_after: tuple[float, ...] = (5, 30, 120, 600, 1_800, 7_200, 18_000, 36_000)
    """Waits between attempts, each ± 20 %, so that receivers that fail together do not come back together."""
    longest_retry_after: float = DAY_S
    """A receiver's ``Retry-After`` may only delay, and by no more than this."""
    excuses: int = 60
    """So many attempts of a request that ended by a fault of ours do not count; then they do, so that all end."""
    longest_excused: float = 120.0
    """The longest wait after such a fault, which nobody should pay for by waiting for hours."""

    connect: float = 5.0
    """For the name's look-up, and again for the connection with its TLS."""
    total: float = 15.0
    """Of a whole call, the answer's body included."""
    lease: float = 40.0
    """Longer than a call can last and its result take to be recorded: a lease that ends means a lost worker."""

    calls_at_once: int = 512
    retries_at_once: int = 384
    """The rest is kept for first attempts."""
    firsts_at_once: int = 448
    """The rest is kept for retries."""
    calls_per_system: int = 16

    ingest_waits: float = 0.5
    """Requests wait so long at most for slots to be called at once; then they go into their lines."""

    break_after: int = 10
    open_for: float = 30.0
    """How long a circuit is open the first time; twice as long each time its probe fails."""
    longest_open: float = 900.0
    disable_after: float = 5 * DAY_S
    ask_again_after: float = 600.0
    """After a `DisableBusinessSystem` that had no effect yet."""

    database: float = 15.0
    """One transaction: a database that died may swallow a connection, and the driver would wait for it for a minute."""
    patience: float = 10.0
    """How long a request waits for a ``settings_version`` that is yet to come."""
    keep_days: int = 30
    """How long the delivery log keeps what has ended."""

    @classmethod
    def of(cls, settings: Settings) -> Pace:
        default = cls()
        return cls(
            retry_after=settings.invoker_retry_seconds or default.retry_after, keep_days=settings.delivery_log_days
        )


PACE = Pace()
"""The pace where nothing else is said."""

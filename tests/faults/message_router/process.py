"""A message router with injected faults: ``python -m tests.faults.message_router.process OPTIONS``, as JSON.

It runs the product's own service, with short waits, and ends when its standard input closes. A sabotage removes one of
its safeguards.
"""

from __future__ import annotations

import sys
import time
from typing import Any, Literal
from uuid import uuid4

from services.domain.message_routing import lifecycle, route
from services.infrastructure.config import Settings
from services.message_router import decisions, notices, publisher, scheduling_resources, service, timers
from tests.faults.faulty_service import SignalOptions, say_ready, serve, signal_at_step

Step = Literal["loaded", "ingested", "committed", "timed", "fenced", "publishing", "sent", "published"]
STEPS: tuple[Step, ...] = ("loaded", "ingested", "committed", "timed", "fenced", "publishing", "sent", "published")

Sabotage = Literal[
    "no-fence", "no-lock", "new-usage-id", "forgotten-timer", "blind-fallback", "old-switch", "no-restore"
]

RESERVATION_MS = 3_000
FALLBACK_WAIT_S = 2
"""Of a request that asks for 60 s, the shortest that it may ask for."""
SETTINGS_VERSION_WAIT_MS = 2_000
_BACKLOG = 3
"""A batch of so many records lets timers go with batches, which a round has too few records for otherwise."""


class ProcessOptions(SignalOptions):
    """``clock`` is (for how many seconds, how many milliseconds ahead), in turn."""

    step: Step | None = None
    clock: tuple[tuple[float, int], ...] = ()
    sabotage: Sabotage | None = None


def _shorten_waits() -> None:
    route.RESERVATION_MS = RESERVATION_MS
    timers._BACKLOG = _BACKLOG
    begin, begin_again = lifecycle.begin, lifecycle.begin_again

    def begin_with_short_wait(
        chosen: Any, until: int | None, asked: lifecycle.Asked | None, *rest: Any
    ) -> lifecycle.Outcome:
        return begin(chosen, until, _with_short_wait(asked), *rest)

    def begin_again_with_short_wait(
        message: Any, chosen: Any, asked: lifecycle.Asked | None, *rest: Any
    ) -> lifecycle.Outcome:
        return begin_again(message, chosen, _with_short_wait(asked), *rest)

    change: Any = decisions
    change.begin, change.begin_again = begin_with_short_wait, begin_again_with_short_wait


def _with_short_wait(asked: lifecycle.Asked | None) -> lifecycle.Asked | None:
    if asked is None or asked.wait_seconds is None:
        return asked
    return asked._replace(wait_seconds=FALLBACK_WAIT_S)


def _step_clock(clock: tuple[tuple[float, int], ...]) -> None:
    true_time, started = time.time_ns, time.monotonic()

    def stepped() -> int:
        passed, offset = time.monotonic() - started, 0
        for seconds, ahead in clock:
            passed -= seconds
            offset = ahead
            if passed < 0:
                break
        return true_time() + offset * 1_000_000

    time.time_ns = stepped


def _sabotage(kind: Sabotage) -> None:
    change: Any
    match kind:
        case "no-fence":
            change = publisher
            change.transactional_id = lambda partition: f"switchboard.message-router-{partition}-{uuid4()}"
        case "no-lock":
            change = scheduling_resources
            change._LOCK = change._LOCK.replace("FOR UPDATE", "")
        case "new-usage-id":
            change = notices
            change.usage_id = lambda *_: str(uuid4())
        case "forgotten-timer":
            change, started = timers, time.time_ns() // 1_000_000
            change._SELECT_DUE = change._SELECT_DUE.replace(
                "next_timer <= $2", f"next_timer <= $2 AND decided_at >= {started}"
            )
        case "blind-fallback":
            change, at_time = decisions, lifecycle.at_time
            on = lifecycle.Switches(sms_enabled=True, retired=False)
            change.at_time = lambda message, now, _: at_time(message, now, on)
        case "old-switch":

            async def believe_the_replica(self: timers.Timers, due: set[int], now: int) -> None:
                self._looked_at |= {partition: timers._LookedAt({partition: -1}, now) for partition in due}

            change = timers.Timers
            change._look_at_log = believe_the_replica
        case "no-restore":

            async def restore_nothing(*_: Any) -> None:
                pass

            change = publisher
            change.restore = restore_nothing


def main() -> None:
    options = ProcessOptions.model_validate_json(sys.argv[1])
    _shorten_waits()
    if options.clock:
        _step_clock(options.clock)
    if options.sabotage is not None:
        _sabotage(options.sabotage)
    serve(
        service.run(
            Settings.from_environment(),
            ready=say_ready,
            on_step=signal_at_step(options),
            settings_version_wait_ms=SETTINGS_VERSION_WAIT_MS,
        )
    )


if __name__ == "__main__":
    main()

"""A message router with injected faults: ``python -m tests.faults.message_router.process OPTIONS``, as JSON.

It runs the product's own service, with short waits, and ends when its standard input closes. A sabotage removes one of
its safeguards.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partialmethod
from typing import Any, Literal
from uuid import uuid4

import uvloop
from faststream.kafka import KafkaBroker
from pydantic import BaseModel, ConfigDict

from services.domain.message_routing import lifecycle, route
from services.infrastructure.config import Settings
from services.infrastructure.logging_setup import set_up_logging
from services.message_router import decisions, notices, publisher, scheduling_resources, service, timers
from tests.faults.service_process import READY, SIGNALLED

Step = Literal["loaded", "ingested", "committed", "timed", "fenced", "publishing", "sent", "published"]
STEPS: tuple[Step, ...] = ("loaded", "ingested", "committed", "timed", "fenced", "publishing", "sent", "published")

Sabotage = Literal["no-fence", "no-lock", "new-usage-id", "forgotten-timer", "blind-fallback", "old-switch"]

RESERVATION_MS = 3_000
FALLBACK_WAIT_S = 2
"""Of a request that asks for 60 s, the shortest that it may ask for."""
SETTINGS_VERSION_WAIT_MS = 2_000
_BACKLOG = 3
"""A batch of so many records lets timers go with batches, which a round has too few records for otherwise."""


class ProcessOptions(BaseModel):
    """At the ``count``-th ``step`` the process sends itself ``signal``; without a step it never does.

    Its clock is ``clock_ms`` ahead, in turn for as many seconds as the pair says.
    """

    model_config = ConfigDict(frozen=True)

    step: Step | None = None
    count: int = 1
    signal: Literal["SIGKILL", "SIGSTOP"] = "SIGKILL"
    clock: tuple[tuple[float, int], ...] = ()
    sabotage: Sabotage | None = None


def _signal_at_step(options: ProcessOptions) -> Callable[[str], None]:
    left = options.count

    def on_step(step: str) -> None:
        nonlocal left
        if step == options.step:
            left -= 1
            if left == 0:
                os.write(1, f"{SIGNALLED}\n".encode())
                os.kill(os.getpid(), getattr(signal, options.signal))

    return on_step


def _shorten_waits() -> None:
    route.RESERVATION_MS = RESERVATION_MS
    timers._BACKLOG = _BACKLOG
    begin = lifecycle.begin

    def begin_with_short_wait(
        chosen: Any, until: int | None, asked: lifecycle.Asked | None, *rest: Any
    ) -> lifecycle.Outcome:
        if asked is not None and asked.wait_seconds is not None:
            asked = asked._replace(wait_seconds=FALLBACK_WAIT_S)
        return begin(chosen, until, asked, *rest)

    change: Any = decisions
    change.begin = begin_with_short_wait


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
                self._looked_at |= {partition: timers._LookedAt(-1, now) for partition in due}

            change = timers.Timers
            change._look_at_log = believe_the_replica


def main() -> None:
    options = ProcessOptions.model_validate_json(sys.argv[1])
    set_up_logging()
    # The least that a broker allows by default, so that a killed member is detected soon.
    subscriber = KafkaBroker.subscriber
    KafkaBroker.subscriber = partialmethod(subscriber, session_timeout_ms=6_000, heartbeat_interval_ms=500)  # type: ignore[assignment, method-assign]
    _shorten_waits()
    if options.clock:
        _step_clock(options.clock)
    if options.sabotage is not None:
        _sabotage(options.sabotage)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(
            service.run(
                Settings.from_environment(),
                ready=lambda: print(READY, flush=True),
                on_step=_signal_at_step(options),
                settings_version_wait_ms=SETTINGS_VERSION_WAIT_MS,
            )
        )
        threading.Thread(target=_stop_with_parent, args=(loop, task), daemon=True).start()
        await asyncio.wait([task])

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def _stop_with_parent(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
    while os.read(0, 1024):
        pass
    loop.call_soon_threadsafe(task.cancel)
    threading.Timer(8, os._exit, (1,)).start()


if __name__ == "__main__":
    main()

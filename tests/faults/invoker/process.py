"""An invoker with injected faults: ``python -m tests.faults.invoker.process OPTIONS``, a `ProcessOptions` as JSON.

It runs the product's own service with short limits, and ends when its standard input closes.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partialmethod
from typing import Literal

import uvloop
from faststream.kafka import KafkaBroker
from pydantic import BaseModel, ConfigDict

from services.infrastructure.config import Settings
from services.infrastructure.logging_setup import set_up_logging
from services.invoker import service
from services.invoker.limits import Limits
from tests.faults.service_process import READY, SIGNALLED

Step = Literal["ingested", "leased", "claimed", "called", "recorded"]
STEPS: tuple[Step, ...] = ("ingested", "leased", "claimed", "called", "recorded")

SHORT_LIMITS = Limits(
    retry_delays=(0.2, 0.3, 0.4),
    connect_timeout=0.5,
    call_timeout=1.0,
    lease_duration=2.5,
    open_duration=0.3,
    max_open_duration=0.6,
    disable_again_after=0.5,
    settings_version_wait=2.0,
    unverified_interval=0.05,
    calls_per_host=100_000,
)


class ProcessOptions(BaseModel):
    """At the ``count``-th ``step`` the process sends itself ``signal``; without a step it never does."""

    model_config = ConfigDict(frozen=True)

    step: Step | None = None
    count: int = 1
    signal: Literal["SIGKILL", "SIGSTOP"] = "SIGKILL"


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


def main() -> None:
    options = ProcessOptions.model_validate_json(sys.argv[1])
    set_up_logging()
    # The least that a broker allows by default, so that a killed member is detected soon.
    subscriber = KafkaBroker.subscriber
    KafkaBroker.subscriber = partialmethod(subscriber, session_timeout_ms=6_000, heartbeat_interval_ms=500)  # type: ignore[assignment, method-assign]

    async def run() -> None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(
            service.run(
                Settings.from_environment(),
                ready=lambda: print(READY, flush=True),
                on_step=_signal_at_step(options),
                limits=SHORT_LIMITS,
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

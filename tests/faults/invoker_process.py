"""An invoker that can be told when to die: ``python -m tests.faults.invoker_process ORDER``, an `Order` as JSON.

It runs the product's own service at a quick pace, and ends when its standard input does.
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

from services.infrastructure.settings import Settings
from services.infrastructure.telemetry import set_up_logging
from services.invoker import service
from services.invoker.pace import Pace

READY = "invoker is ready"
STRUCK = "invoker was struck"

Step = Literal["ingested", "leased", "claimed", "called", "recorded"]
STEPS: tuple[Step, ...] = ("ingested", "leased", "claimed", "called", "recorded")

QUICK = Pace(
    retry_after=(0.2, 0.3, 0.4),
    connect=0.5,
    total=1.0,
    lease=2.5,
    open_for=0.3,
    longest_open=0.6,
    ask_again_after=0.5,
    patience=2.0,
)


class Order(BaseModel):
    """At the ``count``-th time that it comes to ``step`` it sends itself ``signal``; without a step, never."""

    model_config = ConfigDict(frozen=True)

    step: Step | None = None
    count: int = 1
    signal: Literal["SIGKILL", "SIGSTOP"] = "SIGKILL"


def _striking(order: Order) -> Callable[[str], None]:
    left = order.count

    def on_step(step: str) -> None:
        nonlocal left
        if step == order.step:
            left -= 1
            if left == 0:
                os.write(1, f"{STRUCK}\n".encode())
                os.kill(os.getpid(), getattr(signal, order.signal))

    return on_step


def main() -> None:
    order = Order.model_validate_json(sys.argv[1])
    set_up_logging()
    # A killed member is missed sooner: the least that a broker allows by default.
    subscriber = KafkaBroker.subscriber
    KafkaBroker.subscriber = partialmethod(subscriber, session_timeout_ms=6_000, heartbeat_interval_ms=500)  # type: ignore[assignment, method-assign]

    async def run() -> None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(
            service.run(
                Settings.from_environment(),
                ready=lambda: print(READY, flush=True),
                on_step=_striking(order),
                pace=QUICK,
            )
        )
        threading.Thread(target=_when_alone, args=(loop, task), daemon=True).start()
        await asyncio.wait([task])

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def _when_alone(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
    while os.read(0, 1024):
        pass
    loop.call_soon_threadsafe(task.cancel)
    threading.Timer(8, os._exit, (1,)).start()


if __name__ == "__main__":
    main()

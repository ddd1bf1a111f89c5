"""What the processes of the fault rounds share that run one of the product's services, with a signal at a step."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from functools import partialmethod
from typing import Any, Literal

import uvloop
from faststream.kafka import KafkaBroker
from pydantic import BaseModel, ConfigDict

from services.infrastructure.logging_setup import set_up_logging
from tests.faults.service_process import READY, SIGNALLED


class SignalOptions(BaseModel):
    """At the ``count``-th ``step`` the process sends itself ``signal``; without a step it never does."""

    model_config = ConfigDict(frozen=True)

    step: str | None = None
    count: int = 1
    signal: Literal["SIGKILL", "SIGSTOP"] = "SIGKILL"


def say_ready() -> None:
    print(READY, flush=True)


def signal_at_step(options: SignalOptions) -> Callable[[str], None]:
    left = options.count

    def on_step(step: str) -> None:
        nonlocal left
        if step == options.step:
            left -= 1
            if left == 0:
                os.write(1, f"{SIGNALLED}\n".encode())
                os.kill(os.getpid(), getattr(signal, options.signal))

    return on_step


def serve(service: Coroutine[Any, Any, None]) -> None:
    """Runs the service until it ends, or standard input closes."""
    set_up_logging()
    # The least that a broker allows by default, so that a killed member is detected soon.
    subscriber = KafkaBroker.subscriber
    KafkaBroker.subscriber = partialmethod(subscriber, session_timeout_ms=6_000)  # type: ignore[assignment, method-assign]

    async def run() -> None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(service)
        threading.Thread(target=_stop_with_parent, args=(loop, task), daemon=True).start()
        await asyncio.wait([task])

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def _stop_with_parent(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
    while os.read(0, 1024):
        pass
    loop.call_soon_threadsafe(task.cancel)
    threading.Timer(8, os._exit, (1,)).start()

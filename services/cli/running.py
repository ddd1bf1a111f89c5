"""Running a service as a process: its one ready line, and its end within seconds of a signal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from importlib import import_module
from typing import Any

import typer
import uvloop

from services.infrastructure.settings import Settings
from services.infrastructure.telemetry import set_up_logging

SERVICES = {
    "decider": "services.decider.service",
    "projector": "services.projector.service",
    "invoker": "services.invoker.service",
    "gateway": "services.gateway.service",
}
LONGEST_STOP_S = 9.0


def ready_line(service: str) -> str:
    return f"switchboard {service} is ready"


def run_service(service: str, *, with_parent: bool) -> None:
    """Runs until SIGTERM or SIGINT; with ``with_parent``, also until standard input ends."""
    set_up_logging()
    run: Callable[..., Coroutine[Any, Any, None]] = import_module(SERVICES[service]).run
    settings = Settings.from_environment()

    def ready() -> None:
        typer.echo(ready_line(service))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(run(settings, ready=ready))

        def stop() -> None:
            task.cancel()
            # Whatever hangs on to a broker that is away: 10 s after the signal we are gone.
            loop.call_later(LONGEST_STOP_S, os._exit, 0)

        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, stop)
        if with_parent:
            threading.Thread(target=_when_alone, args=(loop, stop), daemon=True).start()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def _when_alone(loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> None:
    while os.read(0, 1024):
        pass
    loop.call_soon_threadsafe(stop)

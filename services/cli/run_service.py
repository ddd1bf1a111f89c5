"""Runs a service as a process: prints one ready line, and ends within seconds of a signal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import structlog
import typer
import uvloop

from services.cli.service_settings import settings_of_service
from services.infrastructure import tracing
from services.infrastructure.config import Settings, unknown_variables
from services.infrastructure.kafka import security_options
from services.infrastructure.logging_setup import set_up_logging
from services.infrastructure.metrics_endpoint import MetricsEndpoint
from services.infrastructure.unfinished_restore import wait_for_whole_log

log = structlog.stdlib.get_logger(__name__)

STOP_TIMEOUT_S = 9.0

RunService = Callable[..., Coroutine[Any, Any, None]]


def _import_service(service: str) -> RunService:
    """Imports one service alone, so that its process starts quickly and stays small."""
    match service:
        case "decider":
            from services.decider.service import run as run_decider

            return run_decider
        case "projector":
            from services.projector.service import run as run_projector

            return run_projector
        case "invoker":
            from services.invoker.service import run as run_invoker

            return run_invoker
        case "message-router":
            from services.message_router.service import run as run_message_router

            return run_message_router
        case "gateway":
            from services.gateway.service import run as run_gateway

            return run_gateway
    raise ValueError(f"there is no service {service!r}")


def ready_line(service: str) -> str:
    return f"switchboard {service} is ready"


def run_service(service: str, *, with_parent: bool) -> None:
    """Runs until SIGTERM or SIGINT; with ``with_parent``, also until standard input ends."""
    settings = settings_of_service(service)
    set_up_logging(settings)
    for sentence in unknown_variables(os.environ):
        log.warning("unknown variable", detail=sentence)
    send_last_spans = tracing.set_up(service)
    run = _import_service(service)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        endpoint = MetricsEndpoint(settings)

        def ready() -> None:
            endpoint.ready()
            typer.echo(ready_line(service))

        task = loop.create_task(_run_on_whole_log(service, run, settings, ready))

        def stop() -> None:
            task.cancel()
            # A client may wait for a broker that is away; the process still ends within 10 s of the signal.
            loop.call_later(STOP_TIMEOUT_S, os._exit, 0)

        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, stop)
        if with_parent:
            threading.Thread(target=_stop_with_parent, args=(loop, stop), daemon=True).start()
        try:
            with contextlib.suppress(asyncio.CancelledError), endpoint:
                await task
        finally:
            send_last_spans()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


async def _run_on_whole_log(service: str, run: RunService, settings: Settings, ready: Callable[[], None]) -> None:
    # The gateway waits by itself: it serves what needs no broker meanwhile.
    if service != "gateway" and settings.kafka_bootstrap_servers is not None:
        await wait_for_whole_log(settings.kafka_bootstrap_servers, security_options())
    await run(settings, ready=ready)


def _stop_with_parent(loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> None:
    while os.read(0, 1024):
        pass
    loop.call_soon_threadsafe(stop)

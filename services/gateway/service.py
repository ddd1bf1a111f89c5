"""The gateway: the HTTP API and the console."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import uvicorn
from aiokafka.errors import KafkaError
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from fastapi_offline import FastAPIOffline

from contracts.publisher import Publisher, PublisherBroken
from projections import settings as settings_projection
from services.gateway import api_keys, change_routes, delivery_routes, history_routes, intents_routes, problems
from services.gateway.asyncapi import asyncapi
from services.gateway.audit_routes import router as audit_router
from services.gateway.feed import Feed
from services.gateway.routes import router
from services.infrastructure.consuming import MIGRATIONS as CHECKPOINT_MIGRATIONS
from services.infrastructure.kafka import security_options
from services.infrastructure.postgres import OUTAGES, Pool, migrate, pool_of
from services.infrastructure.settings import Settings, SettingsError
from services.invoker.service import MIGRATIONS as INVOKER_MIGRATIONS

log = logging.getLogger(__name__)

Part = TypeVar("Part")

CONSOLE = Path(__file__).with_name("console")
_CHAPTERS = (
    "channels",
    "settings",
    "business systems",
    "signatures",
    "intents",
    "sms",
    "otp-scheduling",
    "invocations",
    "deliveries",
    "changes",
    "history",
    "audit",
)
"""The order of `/docs`: as one sets up a channel, then what comes of it."""

_SAME_ORIGIN = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def application(pool: Pool) -> FastAPI:
    """The app; its ``state.publisher`` is set once the broker is there."""
    app = FastAPIOffline(  # its /docs comes from files of its own, not from a server elsewhere
        title="Switchboard",
        description="The service settings of chat message channels. A body is a command's data.",
        version="1",
        redoc_url=None,
        openapi_tags=[{"name": name} for name in _CHAPTERS],
        static_url="/docs-assets",
        favicon_url="/console/icon.svg",
    )
    app.state.pool = pool
    app.state.publisher = None
    app.state.feed = None
    app.state.now = lambda: time.time_ns() // 1_000_000
    problems.install(app)
    app.include_router(audit_router)  # before the others: its settings route knows ?at= besides
    app.include_router(router)
    app.include_router(delivery_routes.router)
    app.include_router(change_routes.router)
    app.include_router(history_routes.router)
    app.include_router(intents_routes.router)
    app.mount("/console", StaticFiles(directory=CONSOLE))

    @app.get("/", include_in_schema=False)
    async def console() -> Response:
        return FileResponse(
            CONSOLE / "index.html", headers={"Content-Security-Policy": _SAME_ORIGIN, "Cache-Control": "no-cache"}
        )

    @app.get("/asyncapi", include_in_schema=False)
    async def described_topics() -> JSONResponse:
        return JSONResponse(asyncapi(), media_type="application/vnd.aai.asyncapi+json")

    @app.get("/healthz", include_in_schema=False)
    async def healthy() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", include_in_schema=False)
    async def ready(request: Request) -> JSONResponse:
        missing = [] if request.app.state.publisher is not None else ["broker"]
        try:
            await request.app.state.pool.fetchval("SELECT 1", timeout=2)
        except OUTAGES:
            missing.append("database")
        return JSONResponse({"ready": not missing, "missing": missing}, 503 if missing else 200)

    return app


async def run(settings: Settings, *, ready: Callable[[], None]) -> None:
    """Serves until cancelled; answers 503 while its broker or database is away. Raises `SettingsError`."""
    bootstrap_servers = settings.kafka_bootstrap_servers
    if bootstrap_servers is None:
        raise SettingsError("SWITCHBOARD_KAFKA_BOOTSTRAP_SERVERS is not set; it must be host:port of the broker.")
    listening = _listening(settings)
    pool = await pool_of(settings)
    for owner, directory in (
        ("checkpoints", CHECKPOINT_MIGRATIONS),
        ("projections", settings_projection.MIGRATIONS),
        ("invoker", INVOKER_MIGRATIONS),
        ("gateway", api_keys.MIGRATIONS),
    ):
        await migrate(pool, owner, directory)
    app = application(pool)
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", server_header=False, loop="none")
    )
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        async with (
            _once_there(lambda: Publisher(bootstrap_servers, source="gateway", **security_options())) as publisher,
            _once_there(lambda: Feed(bootstrap_servers, security_options())) as feed,
        ):
            app.state.publisher, app.state.feed = publisher, feed
            while not server.started and not serving.done():  # noqa: ASYNC110 -- uvicorn has no event to wait for
                await asyncio.sleep(0.01)
            ready()
            await asyncio.shield(serving)
    finally:
        server.should_exit = True
        await asyncio.wait([serving], timeout=5)
        await pool.close()


def _listening(settings: Settings) -> socket.socket:
    try:
        return socket.create_server((settings.http_host, settings.http_port), reuse_port=False)
    except OSError as error:
        raise SettingsError(
            f"Port {settings.http_port} on {settings.http_host} cannot be used ({error.strerror}); "
            "set SWITCHBOARD_HTTP_PORT to a free port."
        ) from None


@contextlib.asynccontextmanager
async def _once_there(make: Callable[[], contextlib.AbstractAsyncContextManager[Part]]) -> AsyncIterator[Part]:
    """What needs the broker, as soon as that is there."""
    waited = False
    while True:
        part = make()
        try:
            entered = await part.__aenter__()
        except (PublisherBroken, KafkaError, OSError) as error:
            if not waited:
                log.warning("waiting for the broker (%s)", type(error).__name__)
            waited = True
            await asyncio.sleep(1)
        else:
            break
    try:
        yield entered
    finally:
        await part.__aexit__(None, None, None)

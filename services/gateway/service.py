"""The gateway service: serves the HTTP API and the console until it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import uvicorn
from aiokafka.errors import KafkaError

from contracts.kafka.publisher import Publisher, PublisherError
from contracts.kafka.router import Router
from services.gateway.application import application
from services.gateway.authentication.access_log_relay import AccessLogRelay
from services.gateway.authentication.oidc.configuration import load as load_oidc
from services.gateway.authentication.oidc.tokens import TrustedIssuers
from services.gateway.database_metrics import database_metrics
from services.gateway.database_schemas import make_tables
from services.gateway.feed.feed import Feed
from services.gateway.http_server import http_server
from services.gateway.limits import Limits
from services.infrastructure.config import Settings, SettingsError
from services.infrastructure.kafka import security_options
from services.infrastructure.open_files import raise_open_file_limit
from services.infrastructure.outages import retry_during_outage
from services.infrastructure.postgres import Pool, pool_of
from services.infrastructure.threads import favour_event_loop
from services.infrastructure.unfinished_restore import wait_for_whole_log

Part = TypeVar("Part")
_WEBJARS_TIMEOUT_S = 5.0
"""A gateway whose console has no libraries yet serves the API all the same."""
_ISSUERS_TIMEOUT_S = 5.0
"""One that does not know the keys of an issuer takes API keys all the same."""
_BROKER_TIMEOUT_S = 10.0
"""One without a broker answers reads all the same; but one that only takes long to connect refuses no command."""
_LAST_ANSWERS_TIMEOUT_S = 6.0


async def run(settings: Settings, *, ready: Callable[[], None]) -> None:
    """Serves until cancelled; responds 503 while the broker or the database is unavailable. Raises `SettingsError`."""
    bootstrap_servers = settings.kafka_bootstrap_servers
    if bootstrap_servers is None:
        raise SettingsError("SWITCHBOARD_KAFKA_BOOTSTRAP_SERVERS is not set; it must be host:port of the broker.")
    favour_event_loop()
    limits = Limits.of(settings, raise_open_file_limit())
    issuers = TrustedIssuers(load_oidc(settings.oidc_file))
    listener = _bind(settings)
    pool = await pool_of(settings, resets=False)  # nothing here outlives its transaction
    await make_tables(pool)
    app = application(
        pool,
        limits,
        sms_product_url=settings.sms_product_url,
        cors_origins=settings.http_cors_origins,
        issuers=issuers,
    )
    loading = asyncio.create_task(app.state.console_assets.load_webjars())
    await asyncio.wait([loading], timeout=_WEBJARS_TIMEOUT_S)
    server = http_server(app, limits.connections, settings)
    connected = asyncio.Event()
    serving = asyncio.create_task(_serve(server, listener, connected))
    relay_pool = await pool_of(settings, size=1, resets=False, takes_over=True)
    relay = asyncio.create_task(_relay_access_log(relay_pool, bootstrap_servers))
    refusals = asyncio.create_task(app.state.refusals.run(pool))
    try:
        async with (
            database_metrics(pool),
            issuers.running(wait_s=_ISSUERS_TIMEOUT_S),
            _whole_log(bootstrap_servers),
            _retry_until_available(
                lambda: Publisher(bootstrap_servers, source="gateway", **security_options())
            ) as publisher,
            _retry_until_available(
                lambda: Router(bootstrap_servers, source="gateway", **security_options())
            ) as message_router,
            _answered_when_left(serving),
            _retry_until_available(lambda: Feed(bootstrap_servers, security_options())) as feed,
        ):
            app.state.publisher, app.state.message_router, app.state.feed = publisher, message_router, feed
            connected.set()
            # A body of 512 KiB can become 200,000 objects; at its defaults, the collector takes 0.3 s for them.
            gc.freeze()
            gc.set_threshold(20_000, 20, 20)
            while not server.started and not serving.done():  # noqa: ASYNC110 -- uvicorn has no event to wait for
                await asyncio.sleep(0.01)
            ready()
            try:
                await asyncio.shield(serving)
            finally:
                server.should_exit = True
    finally:
        server.should_exit = True
        connected.set()
        for task in (loading, relay, refusals):
            task.cancel()
        await asyncio.wait([serving, loading, relay, refusals], timeout=5)
        await app.state.schemas.aclose()
        await relay_pool.close()
        await pool.close()


@contextlib.asynccontextmanager
async def _whole_log(bootstrap_servers: str) -> AsyncIterator[None]:
    await wait_for_whole_log(bootstrap_servers, security_options())
    yield


async def _relay_access_log(pool: Pool, bootstrap_servers: str) -> None:
    await wait_for_whole_log(bootstrap_servers, security_options())
    await AccessLogRelay(pool, bootstrap_servers, security_options()).run()


def _bind(settings: Settings) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in settings.http_host else socket.AF_INET
        return socket.create_server((settings.http_host, settings.http_port), family=family, reuse_port=False)
    except OSError as error:
        raise SettingsError(
            f"Port {settings.http_port} on {settings.http_host} cannot be used ({error.strerror}); "
            "set SWITCHBOARD_HTTP_PORT to a free port."
        ) from None


async def _serve(server: uvicorn.Server, listener: socket.socket, connected: asyncio.Event) -> None:
    """Serves as soon as the broker is there: a gateway that only begins would refuse commands until then. Requests
    meanwhile wait in the listener's backlog. After a while it serves what needs no broker."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(connected.wait(), _BROKER_TIMEOUT_S)
    await server.serve(sockets=[listener])


@contextlib.asynccontextmanager
async def _answered_when_left(serving: asyncio.Task[None]) -> AsyncIterator[None]:
    """Leaving it waits until the server, told to stop, has answered what it had begun, for which it needs the broker.
    The streams, which would go on, have ended with the feed by then."""
    try:
        yield
    finally:
        await asyncio.wait([serving], timeout=_LAST_ANSWERS_TIMEOUT_S)


@contextlib.asynccontextmanager
async def _retry_until_available(
    connect: Callable[[], contextlib.AbstractAsyncContextManager[Part]],
) -> AsyncIterator[Part]:
    """Enters a context that needs the broker, again and again until the broker is available."""

    async def enter() -> tuple[contextlib.AbstractAsyncContextManager[Part], Part]:
        part = connect()
        return part, await part.__aenter__()

    part, entered = await retry_during_outage(enter, (PublisherError, KafkaError, OSError), "broker")
    try:
        yield entered
    finally:
        await part.__aexit__(None, None, None)

"""A gateway in the process of the tests, so that they can change its limits."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from contracts.kafka.publisher import Publisher
from contracts.kafka.router import Router
from services.gateway.application import application
from services.gateway.authentication import api_keys
from services.gateway.authentication.oidc.tokens import TrustedIssuers
from services.gateway.authentication.roles import Scope
from services.gateway.feed.feed import Feed
from services.gateway.http_server import http_server
from services.gateway.limits import Limits
from services.infrastructure.embedded.process import free_port
from services.infrastructure.postgres import Pool, pool_of
from tests.installation import Api, Installation


@asynccontextmanager
async def gateway(
    installation: Installation,
    account: str,
    limits: Limits | None = None,
    pool: Pool | None = None,
    issuers: TrustedIssuers | None = None,
    **feed_options: Any,
) -> AsyncIterator[tuple[Api, Feed]]:
    """Starts a gateway in this process. Yields a client of the account, and the gateway's feed."""
    pool = pool or await pool_of(installation.settings, size=4)
    listener = socket.create_server(("127.0.0.1", free_port()))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # so that a stalled reader is detected soon
    limits = limits or Limits()
    app = application(pool, limits, issuers=issuers)
    server = http_server(app, limits.connections, installation.settings)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        async with (
            Publisher(installation.bootstrap_servers, source="gateway") as publisher,
            Router(installation.bootstrap_servers, source="gateway") as message_router,
            Feed(installation.bootstrap_servers, {}, **feed_options) as feed,
        ):
            app.state.publisher, app.state.message_router, app.state.feed = publisher, message_router, feed
            token = await api_keys.create(pool, scope=Scope(account), label="test")
            address = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/"
            async with aiohttp.ClientSession(address, headers={"Authorization": f"Bearer {token}"}) as session:
                yield Api(session), feed
    finally:
        server.should_exit = True
        await serving
        await app.state.schemas.aclose()
        await pool.close()

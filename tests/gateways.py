"""A gateway in the tests' own process, so that its limits can be changed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import uvicorn

from contracts.publisher import Publisher
from services.gateway import api_keys
from services.gateway.feed import Feed
from services.gateway.service import application
from services.infrastructure.embedded.process import free_port
from services.infrastructure.postgres import pool_of
from tests.installation import Api, Installation


@asynccontextmanager
async def gateway(installation: Installation, account: str, **feed_options: Any) -> AsyncIterator[tuple[Api, Feed]]:
    """A gateway of our own in this process, so that its limits can be changed, and its feed."""
    pool = await pool_of(installation.settings, size=4)
    listening = socket.create_server(("127.0.0.1", free_port()))
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # so that a stalled reader is one soon
    app = application(pool)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", loop="none"))
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        async with (
            Publisher(installation.bootstrap_servers, source="gateway") as publisher,
            Feed(installation.bootstrap_servers, {}, **feed_options) as feed,
        ):
            app.state.publisher, app.state.feed = publisher, feed
            token = await api_keys.create(pool, role="account", account=account, label="test")
            address = f"http://127.0.0.1:{listening.getsockname()[1]}/v1/"
            async with aiohttp.ClientSession(address, headers={"Authorization": f"Bearer {token}"}) as session:
                yield Api(session), feed
    finally:
        server.should_exit = True
        await serving
        await pool.close()

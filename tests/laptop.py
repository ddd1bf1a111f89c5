"""A developer's machine for the tests: it has an API key that may listen and trigger on one channel, and no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.cli.http_api import HttpApi
from services.cli.listener import Forwarded, Listener
from services.cli.local_receiver import LocalReceiver
from services.gateway.authentication import api_keys
from services.gateway.authentication.roles import Role, Scope
from services.infrastructure.postgres import pool_of
from tests.installation import Installation

SECRET = b"d" * 32


async def developer_key(installation: Installation, account: str, channel: str) -> str:
    pool = await pool_of(installation.settings, size=1)
    try:
        scope = Scope(account, channel)
        return await api_keys.create(pool, scope=scope, label="laptop", roles=frozenset({Role.DEVELOPER}))
    finally:
        await pool.close()


class Listening:
    """What a running listener told: ``calls`` that it forwarded, ``notes`` of the API being away."""

    def __init__(self) -> None:
        self.calls: asyncio.Queue[Forwarded] = asyncio.Queue()
        self.notes: asyncio.Queue[str] = asyncio.Queue()


@asynccontextmanager
async def listening(
    address: str, key: str, channel: str, forward_to: str, system: str | None = None
) -> AsyncIterator[Listening]:
    """A listener in this process, which is ready inside."""
    found, ready = Listening(), asyncio.Event()
    async with HttpApi(address, key) as api, LocalReceiver(forward_to, SECRET) as receiver:
        listener = Listener(api, receiver, channel, system, found.calls.put_nowait, found.notes.put_nowait)
        work = asyncio.create_task(listener.run(ready.set))
        try:
            async with asyncio.timeout(20):
                await ready.wait()
            yield found
        finally:
            work.cancel()
            await asyncio.wait([work])
            assert work.cancelled(), work

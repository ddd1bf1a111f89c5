"""Two copies of each service, and one of each at a time is restarted under load: no request fails, and nothing is lost
or done twice. `make faults KIND=restarts` does it on three brokers, and restarts them too."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from tests.installation import Installation, fresh
from tests.load_balanced import LoadBalanced, addresses, pairs, register, restart, use

_CLIENTS = 3


@pytest.mark.timeout(180)
async def test_no_request_fails(installation: Installation) -> None:
    key = await asyncio.to_thread(installation.api_key, None)
    headers = {"Authorization": f"Bearer {key}", "Switchboard-Account": fresh("acme")}
    channels = [fresh("ch") for _ in range(_CLIENTS)]
    stop = asyncio.Event()
    async with pairs(installation) as copies, aiohttp.ClientSession() as session:
        client = LoadBalanced(session, addresses(copies), headers)
        for channel in channels:
            await register(client, channel)
        using = [asyncio.create_task(use(client, channel, stop)) for channel in channels]
        for copy in copies:
            await asyncio.gather(*(asyncio.to_thread(restart, child) for child in copy))
        stop.set()
        await asyncio.gather(*using)

"""Two copies of each service, and one of each at a time is restarted under load: no request fails, and nothing is lost
or done twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from services.cli.service_child import Child
from services.infrastructure.embedded.process import free_port
from tests.installation import SERVICES, Installation, fresh

_CLIENTS = 3
_RECIPIENTS = ("+6591234567", "user:4711")


class LoadBalanced:
    """A client of several gateways. It does what a load balancer does when a connection fails before it is answered: it
    sends the same request to another copy. An answer is never tried again."""

    def __init__(self, session: aiohttp.ClientSession, addresses: list[str], headers: dict[str, str]) -> None:
        self._session, self._addresses, self._headers = session, addresses, headers

    async def send(self, method: str, path: str, body: object = None) -> dict[str, object]:
        headers = self._headers | {"Idempotency-Key": fresh("c")}
        for attempt in range(100):
            address = self._addresses[attempt % len(self._addresses)]
            try:
                async with self._session.request(method, address + path, json=body, headers=headers) as response:
                    assert response.status < 400, await response.text()
                    answer: dict[str, object] = await response.json()
                    return answer
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)
        raise AssertionError("no gateway takes a connection")


@asynccontextmanager
async def pairs(installation: Installation) -> AsyncIterator[list[list[Child]]]:
    """The first and the second copies of all services, running."""
    second = {name: installation.child(name, "-second") for name in SERVICES}
    second["gateway"].environment["SWITCHBOARD_HTTP_PORT"] = str(free_port())
    try:
        for child in second.values():
            child.start()
        for child in second.values():
            await asyncio.to_thread(child.wait_until_ready)
        yield [list(installation.services.values()), list(second.values())]
    finally:
        for child in second.values():
            child.stop()
        for child in second.values():
            child.wait()


def restart(child: Child) -> None:
    child.stop()
    child.wait()
    assert child.process is not None
    assert child.process.returncode == 0
    child.start()
    child.wait_until_ready()


async def use(client: LoadBalanced, channel: str, stop: asyncio.Event) -> None:
    """Changes settings, reads them, and decides messages until it is to stop."""
    version = 1
    while not stop.is_set():
        await client.send("PUT", f"/v1/channels/{channel}/sms", {"enabled": version % 2 == 1})
        version += 1
        settings = await client.send("GET", f"/v1/channels/{channel}/settings?min_version={version}")
        assert settings["version"] == version
        message = {"recipient": _RECIPIENTS[version % 2], "category": "authentication", "settings_version": version}
        await client.send("POST", f"/v1/channels/{channel}/message-decisions", message)


@pytest.mark.timeout(180)
async def test_no_request_fails(installation: Installation) -> None:
    key = await asyncio.to_thread(installation.api_key, None)
    headers = {"Authorization": f"Bearer {key}", "Switchboard-Account": fresh("acme")}
    channels = [fresh("ch") for _ in range(_CLIENTS)]
    stop = asyncio.Event()
    async with pairs(installation) as copies, aiohttp.ClientSession() as session:
        ports = [child.environment["SWITCHBOARD_HTTP_PORT"] for copy in copies for child in copy[-1:]]
        client = LoadBalanced(session, [f"http://127.0.0.1:{port}" for port in ports], headers)
        registered = {"channel_type": "whatsapp", "name": "Shop", "enterprise_authenticated": True}
        for channel in channels:
            await client.send("PUT", f"/v1/channels/{channel}", registered)
        using = [asyncio.create_task(use(client, channel, stop)) for channel in channels]
        for copy in copies:
            await asyncio.gather(*(asyncio.to_thread(restart, child) for child in copy))
        stop.set()
        await asyncio.gather(*using)

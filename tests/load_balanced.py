"""Clients of several gateways, and two copies of each service: what a rolling restart is tried with."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

import aiohttp

from services.cli.service_child import Child
from services.infrastructure.embedded.process import free_port
from tests.installation import SERVICES, Installation, fresh

_RECIPIENTS = ("+6591234567", "user:4711")


class LoadBalanced:
    """A client of several gateways. It does what a load balancer does when a connection fails before it is answered: it
    sends the same request to another copy. Only with ``repeats`` is an answer tried again, and only the one that asks
    for it: the result did not arrive in time."""

    def __init__(
        self, session: aiohttp.ClientSession, addresses: list[str], headers: dict[str, str], *, repeats: bool = False
    ) -> None:
        self._session, self._addresses, self._headers = session, addresses, headers
        self._repeats = repeats
        self.repeated = 0
        self.took: dict[str, list[float]] = defaultdict(list)
        """Seconds until the answer of each request, those of its other attempts included, by what was asked for."""

    async def send(self, method: str, path: str, body: object = None) -> dict[str, object]:
        headers, began = self._headers | {"Idempotency-Key": fresh("c")}, time.monotonic()
        for attempt in range(100):
            address = self._addresses[attempt % len(self._addresses)]
            try:
                async with self._session.request(method, address + path, json=body, headers=headers) as response:
                    if self._repeats and response.status == HTTPStatus.GATEWAY_TIMEOUT:
                        self.repeated += 1
                        continue
                    assert response.status < HTTPStatus.BAD_REQUEST, await response.text()
                    answer: dict[str, object] = await response.json()
                    self.took[path.partition("?")[0].rpartition("/")[2]].append(time.monotonic() - began)
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


def addresses(copies: list[list[Child]]) -> list[str]:
    """Of the gateways, which are the last of each list."""
    return [f"http://127.0.0.1:{copy[-1].environment['SWITCHBOARD_HTTP_PORT']}" for copy in copies]


def restart(child: Child) -> None:
    child.stop()
    child.wait()
    assert child.process is not None
    assert child.process.returncode == 0
    child.start()
    child.wait_until_ready()


async def register(client: LoadBalanced, channel: str) -> None:
    registered = {"channel_type": "whatsapp", "name": "Shop", "enterprise_authenticated": True}
    await client.send("PUT", f"/v1/channels/{channel}", registered)


async def use(client: LoadBalanced, channel: str, stop: asyncio.Event) -> int:
    """Changes settings, reads them, and decides messages until it is to stop. Returns the channel's version."""
    version = 1
    while not stop.is_set():
        await client.send("PUT", f"/v1/channels/{channel}/sms", {"enabled": version % 2 == 1})
        version += 1
        settings = await client.send("GET", f"/v1/channels/{channel}/settings?min_version={version}")
        assert settings["version"] == version
        message = {"recipient": _RECIPIENTS[version % 2], "category": "authentication", "settings_version": version}
        await client.send("POST", f"/v1/channels/{channel}/message-decisions", message)
    return version

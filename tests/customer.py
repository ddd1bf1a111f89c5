"""A customer with a channel, for the tests of signed calls: opens systems, adds intents, invokes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from contracts.kafka.publisher import Publisher
from tests.installation import Answer, Api, Installation, fresh

ACCOUNT = "acme"
CODE = "ORDER"


@dataclass(slots=True)
class Customer:
    """A registered channel, and the account's API."""

    api: Api
    channel: str
    bootstrap_servers: str

    def path(self, system: str) -> str:
        return f"channels/{self.channel}/business-systems/{system}"

    async def open(self, system: str, url: str, style: str = "standard-webhooks") -> str:
        """Opens the system with one intent; returns its signature as its owner is shown it."""
        drawn = await self.api("POST", f"{self.path(system)}/signature", {"api_request_url": url})
        assert drawn.status == 200, drawn.body
        opened = {"name": system, "api_request_url": url, "signature_style": style}
        answer = await self.api("PUT", self.path(system), opened)
        assert answer.status == 201, answer.body
        intent = {"name": "Order", "default_data": {"order": "1"}}
        added = await self.api("PUT", f"{self.path(system)}/intents/{CODE}", intent)
        assert added.status == 201, added.body
        await self.known(added)
        return str(drawn.body["signature"])

    async def known(self, answer: Answer) -> None:
        """Waits until the read model has what the answer reports."""
        assert answer.status < 300, answer.body
        await self.api("GET", f"channels/{self.channel}/settings?min_version={answer.body['version']}")

    async def send(self, kind: str, data: dict[str, Any]) -> None:
        """A command that has no route of its own; returns once the read model has it."""
        async with Publisher(self.bootstrap_servers, source="tests", account=ACCOUNT) as publisher:
            outcome = await publisher.send_raw(kind, data, channel=self.channel)
        assert outcome.accepted, outcome.body
        await self.api("GET", f"channels/{self.channel}/settings?min_version={outcome.version}")

    async def invoke(self, system: str, wait: float = 20, **request: Any) -> dict[str, Any]:
        """The answer's body: ``request_id`` and ``delivery``, which has ended unless the wait was too short."""
        body = {"system": system, "code": CODE, **request}
        answer = await self.api("POST", f"channels/{self.channel}/invocations?wait={wait}", body)
        assert answer.status in (200, 202), answer.body
        return dict(answer.body)

    async def delivery(self, request_id: str) -> dict[str, Any] | None:
        listed = await self.api("GET", f"channels/{self.channel}/invocations")
        found = [one for one in listed.body["invocations"] if one["request_id"] == request_id]
        assert len(found) <= 1
        return found[0] if found else None

    async def disabled(self, system: str, timeout: float = 20) -> None:
        """Returns once the read model shows the system as disabled."""
        async with asyncio.timeout(timeout):
            while True:
                if (await self.api("GET", self.path(system))).body["disabled"]:
                    return
                await asyncio.sleep(0.05)

    async def until(self, request_id: str, state: str, timeout: float = 20) -> dict[str, Any]:
        """The delivery of a request, once it is in that state."""
        async with asyncio.timeout(timeout):
            while True:
                found = await self.delivery(request_id)
                if found is not None and found["state"] == state:
                    return found
                await asyncio.sleep(0.05)


@asynccontextmanager
async def customer(installation: Installation, account: str = ACCOUNT) -> AsyncIterator[Customer]:
    channel = fresh("calls")
    registered = {"channel_type": "whatsapp", "name": "Shop", "enterprise_authenticated": True}
    async with installation.api(None, **{"Switchboard-Account": account}) as platform:
        assert (await platform("PUT", f"channels/{channel}", registered)).status == 201
    async with installation.api(account) as api:
        await api("GET", f"channels/{channel}?min_version=1")
        yield Customer(api, channel, installation.bootstrap_servers)

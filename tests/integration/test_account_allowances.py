"""What one account may call is nobody else's, whatever is kept alive or cached."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from services.domain.url_policy import TARGET_REFUSED, Allowlist
from services.infrastructure.embedded.process import free_port
from services.invoker.delivery.http_call import WebhookClient
from services.invoker.results.retry_policy import Answered, CallResult, Failed
from tests.certificates import write_certificate
from tests.raw_receiver import LIMITS, addresses_of, endpoint, server

Call = Callable[[str], Any]
NAME = "crm.example"


@asynccontextmanager
async def receiver_inside(directory: Path, *allowed: str) -> AsyncIterator[tuple[Call, list[int]]]:
    """A receiver on 127.0.0.1, by a public name; yields a call of it by an account, and its connections' requests."""
    path, key = directory / "crm.pem", directory / "crm.key"
    write_certificate(path, key, NAME, days=1)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(path, key)
    trusting = ssl.create_default_context(cafile=str(path))
    requests: list[int] = []

    async def answer_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        place = len(requests)
        requests.append(0)
        while True:
            await reader.readexactly(2)
            requests[place] += 1
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")

    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(server(answer_all, serving))
        allowlist = Allowlist.parse(f"{entry}:{port}" for entry in allowed)
        lookup = addresses_of("127.0.0.1")
        client = await stack.enter_async_context(WebhookClient(allowlist, LIMITS, tls=trusting, lookup=lookup))

        async def call(account: str) -> CallResult:
            return await client.post(endpoint(f"https://{NAME}:{port}/", account), "msg-1", b"{}")

        yield call, requests


@pytest.mark.parametrize("entry", ["acme@127.0.0.0/8", f"acme@{NAME}"])
async def test_another_account_does_not_use_a_connection_or_verdict_of_the_account(tmp_path: Path, entry: str) -> None:
    async with receiver_inside(tmp_path, entry) as (call, requests):
        assert await call("bolt") == Failed("address", TARGET_REFUSED)
        assert await call("acme") == Answered(200, b"")
        assert await call("bolt") == Failed("address", TARGET_REFUSED)
        assert await call("acme") == Answered(200, b"")
    assert requests == [2]  # the account's own connection is kept alive


async def test_accounts_of_the_same_allowance_share_connections(tmp_path: Path) -> None:
    async with receiver_inside(tmp_path, "127.0.0.0/8") as (call, requests):
        assert [await call(account) for account in ("acme", "bolt", "cobalt")] == [Answered(200, b"")] * 3
    assert requests == [3]


@pytest.mark.parametrize("addresses", [("1.1.1.1", "127.0.0.1"), ("127.0.0.1", "1.1.1.1")])
async def test_a_public_address_beside_an_allowed_private_one_is_not_called(addresses: tuple[str, ...]) -> None:
    port = free_port()
    allowlist = Allowlist.parse([f"127.0.0.0/8:{port}"])
    async with WebhookClient(allowlist, LIMITS, lookup=addresses_of(*addresses)) as client:
        result = await client.post(endpoint(f"https://{NAME}:{port}/"), "msg-1", b"{}")
    assert result == Failed("address", TARGET_REFUSED)
    assert isinstance(result, Failed)
    assert result.detail == "it has public and private addresses"

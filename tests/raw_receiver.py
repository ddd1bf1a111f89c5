"""Raw servers that answer as a test says, and calls of them."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from services.domain.url_policy import Allowlist
from services.invoker.delivery.http_call import WebhookClient
from services.invoker.limits import Limits
from services.invoker.results.retry_policy import CallResult
from services.invoker.settings_replica.endpoint import Endpoint, LiveSignature

LIMITS = Limits(connect_timeout=0.4, call_timeout=0.8)
SECRET = b"s" * 32

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A raw server on 127.0.0.1 that has read a request's head before ``handler`` goes on; yields its port."""
    tasks: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            tasks.add(task)
        try:
            await reader.readuntil(b"\r\n\r\n")
            await handler(reader, writer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    running = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield running.sockets[0].getsockname()[1]
    finally:
        running.close()
        await asyncio.sleep(0)  # a connection that was just accepted has its task now
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # closes their transports
        await running.wait_closed()


def addresses_of(*addresses: str) -> Callable[..., list[tuple[Any, ...]]]:
    """A look-up in which every name has these addresses."""

    def lookup(_: str, port: int, __: object) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    return lookup


def endpoint(url: str, account: str = "acme") -> Endpoint:
    return Endpoint(account, url, "standard-webhooks", disabled=False, signatures=(LiveSignature("k1", SECRET),))


async def call_url(url: str, *, allow: tuple[str, ...] = (), **options: Any) -> tuple[CallResult, float]:
    """The result of a call, and the seconds that it took."""
    began = time.monotonic()
    async with WebhookClient(Allowlist.parse(allow), LIMITS, **options) as client:
        result = await client.post(endpoint(url), "msg-1", b"{}")
        took = time.monotonic() - began
    await asyncio.sleep(0)
    return result, took


async def call_handler(handler: Handler) -> tuple[CallResult, float]:
    async with server(handler) as port:
        return await call_url(f"http://127.0.0.1:{port}/", allow=(f"127.0.0.1:{port}",))


def answering(head: str, body: bytes = b"") -> Handler:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)
        await writer.drain()

    return answer


def dripping(start: bytes, drip: bytes) -> Handler:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while True:
            writer.write(drip)
            await writer.drain()
            await asyncio.sleep(0.05)

    return answer

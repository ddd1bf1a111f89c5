"""Business systems for the tests: receivers that answer as a test says and record the calls.

`verify` checks a call as a customer does, with both common libraries.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import standardwebhooks
import svix.webhooks
from aiohttp import web

Answer = Callable[["Call"], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Call:
    """A call that came in; ``number`` counts the calls of the same path from 1."""

    path: str
    number: int
    headers: dict[str, str]
    body: bytes
    at: float
    request: web.Request = field(repr=False)

    @property
    def webhook_id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def verify(call: Call, secret: str) -> None:
    """Raises unless both libraries find the call signed with ``secret``."""
    standardwebhooks.Webhook(secret).verify(call.body, call.headers)
    svix.webhooks.Webhook(secret).verify(call.body, call.headers)


def verifies(call: Call, secret: str) -> bool:
    try:
        verify(call, secret)
    except standardwebhooks.WebhookVerificationError:
        return False
    return True


async def ok(_: Call) -> web.StreamResponse:
    return web.json_response({"ok": True})


def statuses(*codes: int, **headers: str) -> Answer:
    """Answers with these statuses in turn, then with the last one."""

    async def answer(call: Call) -> web.StreamResponse:
        code = codes[min(call.number, len(codes)) - 1]
        return web.json_response({"status": code}, status=code, headers=headers)

    return answer


async def echo(call: Call) -> web.StreamResponse:
    """Returns the call's headers and body in its JSON answer."""
    return web.json_response({"headers": call.headers, "body": call.body.decode()})


async def black_hole(_: Call) -> web.StreamResponse:
    """Accepts the call and never answers."""
    await asyncio.sleep(3600)
    raise AssertionError


class Receiver:
    """A server on 127.0.0.1, as an async context manager; a path without an `Answer` answers 200."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.calls: dict[str, list[Call]] = defaultdict(list)
        self.answers: dict[str, Answer] = {}
        self._changed = asyncio.Condition()
        app = web.Application(client_max_size=2**22)
        app.router.add_post("/{path:.*}", self._receive)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    def on(self, path: str, answer: Answer) -> str:
        """The URL of a path that answers with ``answer``."""
        self.answers[path] = answer
        return self.url(path)

    async def wait_for(self, path: str, count: int, timeout: float = 20) -> list[Call]:
        """The calls of a path, once there are ``count``."""
        async with asyncio.timeout(timeout), self._changed:
            await self._changed.wait_for(lambda: len(self.calls[path]) >= count)
        return self.calls[path]

    async def _receive(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"]
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        call = Call(path, len(self.calls[path]) + 1, headers, body, time.monotonic(), request)
        async with self._changed:
            self.calls[path].append(call)
            self._changed.notify_all()
        return await self.answers.get(path, ok)(call)

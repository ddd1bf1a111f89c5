"""The second tenant: does an ordinary day's work, and measures how long each kind of request takes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import aiohttp

from contracts.partitioner import partition_of
from tests.installation import Api, Installation, fresh
from tests.receivers import Receiver

CHANNELS = 8
KINDS = ("command", "read", "feed", "call")
_TIMEOUT_S = 30.0


@dataclass(slots=True)
class Latencies:
    """Seconds by kind of request, and what went wrong."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failures: list[str] = field(default_factory=list)

    def p99(self, kind: str) -> float:
        """NaN where there is none."""
        ordered = sorted(self.seconds[kind])
        return ordered[int(len(ordered) * 0.99)] if ordered else float("nan")


class Neighbour:
    """An async context manager. `work` measures for a time; the feed is followed throughout."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._account = fresh("neighbour")
        partitions = installation.settings.partitions
        self._channels = [_channel_on(number % partitions, partitions) for number in range(CHANNELS)]
        """On every partition, so that what holds up one of them is seen."""
        self._stack = AsyncExitStack()
        self._came: dict[str, asyncio.Future[float]] = {}
        """When an event came on the feed, by its id."""
        self._api: Api
        self._receiver: Receiver

    async def __aenter__(self) -> Self:
        installation = self._installation
        platform = await self._stack.enter_async_context(
            installation.api(None, **{"Switchboard-Account": self._account})
        )
        self._api = await self._stack.enter_async_context(installation.api(self._account))
        self._receiver = await self._stack.enter_async_context(Receiver(installation.receiver_port()))
        for channel in self._channels:
            body = {"channel_type": "whatsapp", "name": "Shop", "enterprise_authenticated": True}
            await self._expect(platform, "PUT", f"channels/{channel}", body)
        system = f"channels/{self._channels[0]}/business-systems/crm"
        await self._expect(self._api, "PUT", system, {"name": "CRM", "api_request_url": self._receiver.url("hook")})
        await self._expect(self._api, "PUT", f"{system}/intents/ORDER", {"name": "Order", "default_data": {}})
        await self._call()
        following = asyncio.create_task(self._follow())
        self._stack.push_async_callback(_cancelled, following)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def work(self, seconds: float) -> Latencies:
        """Commands and reads ten times a second each, a call twice a second, each command's event on the feed."""
        found = Latencies()
        end = time.monotonic() + seconds
        await asyncio.gather(
            self._repeat(found, end, 0.1, "command", self._command(found)),
            self._repeat(found, end, 0.1, "read", self._read),
            self._repeat(found, end, 0.5, "call", self._call),
        )
        return found

    async def _repeat(
        self, found: Latencies, end: float, every: float, kind: str, work: Callable[[], Awaitable[None]]
    ) -> None:
        while (begin := time.monotonic()) < end:
            try:
                async with asyncio.timeout(_TIMEOUT_S):
                    await work()
                found.seconds[kind].append(time.monotonic() - begin)
            except (AssertionError, aiohttp.ClientError, TimeoutError) as error:
                found.seconds[kind].append(_TIMEOUT_S)
                found.failures.append(f"{kind}: {type(error).__name__} {str(error)[:200]}")
            await asyncio.sleep(max(0.0, begin + every - time.monotonic()))

    def _command(self, found: Latencies) -> Callable[[], Awaitable[None]]:
        number = 0

        async def command() -> None:
            nonlocal number
            channel, enabled = self._channels[number % CHANNELS], number // CHANNELS % 2 == 0
            number += 1
            begin = time.monotonic()
            body = await self._expect(self._api, "PUT", f"channels/{channel}/sms", {"enabled": enabled})
            if body["events"]:
                followed = asyncio.create_task(self._event_came(found, body["events"][0], begin))
                self._stack.push_async_callback(_cancelled, followed)

        return command

    async def _event_came(self, found: Latencies, event: str, begin: float) -> None:
        end = begin + _TIMEOUT_S
        came = self._came.setdefault(event, asyncio.get_running_loop().create_future())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + end - time.monotonic()):
                end = await came
        del self._came[event]
        found.seconds["feed"].append(end - begin)

    async def _read(self) -> None:
        await self._expect(self._api, "GET", f"channels/{self._channels[0]}/settings")

    async def _call(self) -> None:
        """Invokes an intent, and waits until its call has come."""
        request, path = fresh("req"), f"channels/{self._channels[0]}/invocations"
        before = len(self._receiver.calls["hook"])
        headers = {"Idempotency-Key": request}
        await self._expect(self._api, "POST", path, {"system": "crm", "code": "ORDER"}, headers=headers)
        await self._receiver.wait_for("hook", before + 1, _TIMEOUT_S)

    async def _expect(self, api: Api, method: str, path: str, body: Any = None, **options: Any) -> Any:
        answer = await api(method, path, body, **options)
        assert answer.status < 300, f"{method} {path} answered {answer.status} {answer.body}"
        return answer.body

    async def _follow(self) -> None:
        """Records when each event comes on the change feed; reconnects from the last one."""
        last: dict[str, str] = {}
        while True:
            try:
                headers = {"Accept": "text/event-stream"} | last
                async with self._api.session.get("changes", headers=headers, timeout=_NO_TIMEOUT) as response:
                    async for line in response.content:
                        text = line.decode().rstrip("\n")
                        if text.startswith("id: "):
                            last["Last-Event-ID"] = text.removeprefix("id: ")
                        elif text.startswith("data: "):
                            self._record(json.loads(text.removeprefix("data: ")).get("id", ""))
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)

    def _record(self, event: str) -> None:
        came = self._came.setdefault(event, asyncio.get_running_loop().create_future())
        if not came.done():
            came.set_result(time.monotonic())


def _channel_on(partition: int, partitions: int) -> str:
    while partition_of(channel := fresh("ch"), partitions) != partition:
        pass
    return channel


_NO_TIMEOUT = aiohttp.ClientTimeout(total=None)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

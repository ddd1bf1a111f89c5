"""What one tenant, a receiver or a stranger does to hurt the others. Each attack runs until it is cancelled.

An attack sees the product from outside: HTTP with an ordinary key of its own account, a socket without a key, a
receiver of its own. What it is answered does not matter to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import sys
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

from tests.attacks.attacker import IGNORED, Attack, Attacker
from tests.receivers import Call, Receiver


def _costly_schema(references: int) -> dict[str, Any]:
    """References to an ``enum`` of 1,000 objects, over an array of 400 items: 14 KB."""
    members = [{"a": number} for number in range(1_000)]
    item = {"allOf": [{"$ref": "#/$defs/e"}] * references}
    return {"$defs": {"e": {"not": {"enum": members}}}, "properties": {"v": {"type": "array", "items": item}}}


async def costly_schema(attacker: Attacker) -> None:
    """An intent whose schema takes very long to check."""
    data = {"v": [{"b": 1}] * 400}

    async def add(number: int) -> None:
        body = {"name": "n", "default_data": data, "schema": _costly_schema(10 if number % 2 else 80)}
        await attacker.send("PUT", f"{attacker.system}/intents/COSTLY_{number}", body, params={"dry_run": "true"})

    await attacker.for_ever(4, add)


async def hostile_answers(attacker: Attacker) -> None:
    """A receiver whose answers are costly to search for echoed secrets."""

    async def backslashes(call: Call) -> web.StreamResponse:
        token = call.headers.get("webhook-signature", "").encode()
        return web.Response(body=(b"\\" * 200 + token) * 300, content_type="application/json")

    url = attacker.receiver.on("backslashes", backslashes)
    await attacker.send("PATCH", attacker.system, {"api_request_url": url})
    await _invoke_for_ever(attacker)


async def black_hole(attacker: Attacker) -> None:
    """A receiver that never answers, called as often as possible."""
    await _call_nobody(attacker)
    await _invoke_for_ever(attacker)


async def _call_nobody(attacker: Attacker) -> None:
    async def never(_: Call) -> web.StreamResponse:
        await asyncio.sleep(3600)
        raise AssertionError

    await attacker.send("PATCH", attacker.system, {"api_request_url": attacker.receiver.on("never", never)})


async def _invoke_for_ever(attacker: Attacker) -> None:
    async def invoke(_: int) -> None:
        await attacker.send("POST", f"channels/{attacker.channel}/invocations", {"system": "evil", "code": "I"})

    await attacker.for_ever(16, invoke)


async def bodies_without_key(attacker: Attacker) -> None:
    """Bodies of 300 MB of blanks, without a key."""
    blanks = b" " * 2**20

    async def body() -> Any:
        for _ in range(300):
            yield blanks

    async def post(_: int) -> None:
        with contextlib.suppress(*IGNORED):
            address = f"{attacker.address}/v1/deliveries/replay"
            async with (
                aiohttp.ClientSession() as stranger,
                stranger.post(address, data=body(), timeout=aiohttp.ClientTimeout(total=30)) as response,
            ):
                await response.read()

    await attacker.for_ever(2, post)


async def half_sent_requests(attacker: Attacker) -> None:
    """1,050 connections that send half a request and wait."""
    port = urlsplit(attacker.address).port

    async def hold(_: int) -> None:
        with contextlib.suppress(*IGNORED):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(b"PUT /v1/channels/x/sms HTTP/1.1\r\nHost: localhost\r\nContent-Le")
                async with asyncio.timeout(120):
                    await reader.read()
            finally:
                writer.close()
        await asyncio.sleep(0.2)

    await attacker.for_ever(1_050, hold)


async def command_flood(attacker: Attacker) -> None:
    """64 connections that change one channel as fast as they can, half of them channels that do not exist."""

    async def put(number: int) -> None:
        channel = attacker.channel if number % 2 else f"{attacker.channel}-none"
        await attacker.send("PUT", f"channels/{channel}/sms", {"enabled": number % 4 == 1})

    await attacker.for_ever(64, put)


async def audits(attacker: Attacker) -> None:
    """20 audits at once, of a channel with large intents."""
    large = {"text": "x" * 3_900}
    for number in range(50):
        body = {"name": "large", "default_data": large}
        await attacker.send("PUT", f"{attacker.system}/intents/LARGE_{number}", body)

    async def ask(number: int) -> None:
        path = ("audit/diff", "audit/log", "audit/at")[number % 3]
        query = {"channel": attacker.channel} | ({"from": "1", "to": "now"} if number % 3 == 0 else {})
        await attacker.send("GET", path, params=query | ({"at": "now"} if number % 3 == 2 else {}))

    await attacker.for_ever(20, ask)


async def polls_from_the_beginning(attacker: Attacker) -> None:
    """64 polls at once that read the log from its beginning."""

    async def poll(_: int) -> None:
        await attacker.send("GET", "changes", params={"cursor": "beginning", "limit": "1000"})

    await attacker.for_ever(64, poll)


async def stalled_streams(attacker: Attacker) -> None:
    """500 streams of changes that are opened and never read, beside commands that feed them."""

    async def stall(_: int) -> None:
        with contextlib.suppress(*IGNORED):
            headers = {"Accept": "text/event-stream"}
            timeout = aiohttp.ClientTimeout(total=60)
            async with attacker.session.get("changes", headers=headers, timeout=timeout) as response:
                if response.status == 200:
                    await asyncio.sleep(60)
        await asyncio.sleep(0.2)

    async def put(number: int) -> None:
        await attacker.send("PUT", f"channels/{attacker.channel}/sms", {"enabled": number % 2 == 0})

    await asyncio.gather(attacker.for_ever(500, stall), attacker.for_ever(2, put))


async def settings_reads(attacker: Attacker) -> None:
    """64 connections that read a large channel's settings and lists as fast as they can."""
    for number in range(50):
        body = {"name": "large", "default_data": {"text": "x" * 3_900}}
        await attacker.send("PUT", f"{attacker.system}/intents/LARGE_{number}", body)

    async def read(number: int) -> None:
        path = (f"channels/{attacker.channel}/settings", f"channels/{attacker.channel}/history", "deliveries")[
            number % 3
        ]
        await attacker.send("GET", path)

    await attacker.for_ever(64, read)


_BODY_BYTES = 512 * 1024
_NESTED = b'{"name": "n", "default_data": [' + b"[]," * ((_BODY_BYTES - 100) // 3) + b"[]]}"
"""A body just below the limit, which is some 24 times as large once it is parsed."""


async def parsed(attacker: Attacker) -> None:
    """300 connections with bodies at the limit that are large once parsed, half of which take 25 s to come."""

    async def slowly() -> Any:
        for start in range(0, len(_NESTED), len(_NESTED) // 25 + 1):
            yield _NESTED[start : start + len(_NESTED) // 25 + 1]
            await asyncio.sleep(1)

    async def put(number: int) -> None:
        body = slowly() if number % 2 else _NESTED
        headers = {"Content-Type": "application/json", "Content-Length": str(len(_NESTED))}
        await attacker.send("PUT", f"{attacker.system}/intents/NESTED", data=body, headers=headers)

    await attacker.for_ever(300, put)


async def unread_answers(attacker: Attacker) -> None:
    """300 connections that ask for a large channel's settings again and again, and read nothing."""
    for number in range(100):
        body = {"name": "large", "default_data": {"text": "x" * 3_900}}
        await attacker.send("PUT", f"{attacker.system}/intents/LARGE_{number}", body)
    target, authorization = urlsplit(attacker.address), attacker.session.headers["Authorization"]
    path = f"/v1/channels/{attacker.channel}/settings"
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {authorization}\r\n\r\n".encode()

    async def ask(_: int) -> None:
        with contextlib.suppress(*IGNORED):
            _reader, writer = await asyncio.open_connection(target.hostname, target.port, limit=1)
            try:
                writer.write(request * 10)
                await asyncio.sleep(60)
            finally:
                writer.transport.abort()
        await asyncio.sleep(0.2)

    await attacker.for_ever(300, ask)


async def waits(attacker: Attacker) -> None:
    """190 requests that wait for calls without an end, and 10 listeners that ask as fast as they can."""

    async def wait(_: int) -> None:
        body = {"system": "evil", "code": "I"}
        await attacker.send("POST", f"channels/{attacker.channel}/invocations", body, params={"wait": "30"})

    async def listen(number: int) -> None:
        await attacker.send("PUT", f"channels/{attacker.channel}/listeners/l{number % 10}", {})

    await _call_nobody(attacker)
    await asyncio.gather(attacker.for_ever(190, wait), attacker.for_ever(10, listen))


async def openapi(attacker: Attacker) -> None:
    """64 connections without a key at what is there for anybody: documents, health, and the log-on with a key."""
    key = attacker.session.headers["Authorization"].removeprefix("Bearer ")
    documents = ("openapi.json", "asyncapi.json", "asyncapi", "healthz", "readyz", "metrics", "console/log-on")

    async with aiohttp.ClientSession(f"{attacker.address}/", connector=aiohttp.TCPConnector(limit=0)) as session:
        stranger = replace(attacker, session=session)

        async def ask(number: int) -> None:
            if number % 8 == 7:
                form, headers = {"api_key": key, "next": "/console/channels"}, {"Origin": attacker.address}
                options = {"data": form, "headers": headers, "allow_redirects": False}
                await stranger.send("POST", "console/log-on", **options)
            else:
                await stranger.send("GET", documents[number % 8])

        await stranger.for_ever(64, ask)


ATTACKS: dict[str, Attack] = {
    attack.__name__.replace("_", "-"): attack
    for attack in (
        costly_schema,
        hostile_answers,
        black_hole,
        bodies_without_key,
        half_sent_requests,
        command_flood,
        audits,
        polls_from_the_beginning,
        stalled_streams,
        settings_reads,
        parsed,
        unread_answers,
        waits,
        openapi,
    )
}


async def play(name: str, address: str, key: str, receiver_port: int, account: str, channel: str) -> None:
    """Runs an attack until it is cancelled; ``account`` owns ``channel`` and ``key``."""
    headers = {"Authorization": f"Bearer {key}"}
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        Receiver(receiver_port) as receiver,
        aiohttp.ClientSession(f"{address}/v1/", headers=headers, connector=connector) as session,
    ):
        evil = Attacker(address, session, receiver, account, channel)
        await evil.send("PUT", evil.system, {"name": "Evil", "api_request_url": receiver.url("ok")})
        await evil.send("PUT", f"{evil.system}/intents/I", {"name": "I", "default_data": {}})
        print("attacking", flush=True)
        await ATTACKS[name](evil)


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8_192), hard))
    asyncio.run(play(**json.loads(sys.stdin.readline())))

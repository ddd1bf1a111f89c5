"""Before a route sees a request: what is refused, how much of a body is read; and every response's headers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from fastapi import FastAPI
from starlette.types import Message

from services.gateway import limits, request_guard, request_memory
from services.gateway.application import application
from services.gateway.limits import Limits
from services.infrastructure.postgres import Pool
from tests.unit.gateway.key_rows import key_row

TOKEN = f"sb_abcd1234_{'x' * 43}"
KEY = (b"authorization", f"Bearer {TOKEN}".encode())
MIB = 1024 * 1024


class OneKey:
    """A database with one key, and nothing else."""

    async def fetch(self, _: str, __: list[str]) -> list[dict[str, Any]]:
        return [key_row(TOKEN, "acme")]


def app(**of: Any) -> FastAPI:
    return application(cast("Pool", OneKey()), Limits(**of))


class Response:
    def __init__(self, messages: list[Message], chunks_read: int) -> None:
        self.status = messages[0]["status"]
        self.headers = {name.decode(): value.decode() for name, value in messages[0]["headers"]}
        self.pieces = [one.get("body", b"") for one in messages[1:]]
        self.body = b"".join(self.pieces)
        self.chunks_read = chunks_read

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def problem(self) -> str:
        return str(json.loads(self.text)["type"]).rpartition(":")[2]


async def ask(
    to: FastAPI, method: str, path: str, *headers: tuple[bytes, bytes], body: AsyncIterator[bytes] | None = None
) -> Response:
    sent: list[Message] = []
    count = 0

    async def receive() -> Message:
        nonlocal count
        count += 1
        if body is None and count > 1:
            await asyncio.Event().wait()  # the client stays
        if body is None:
            return {"type": "http.request", "body": b"", "more_body": False}
        chunk = await anext(body, None)
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    async def send(message: Message) -> None:
        sent.append(message)

    raw, _, query = path.partition("?")
    scope = {
        "type": "http",
        "method": method,
        "path": raw.replace("%2F", "/"),
        "raw_path": raw.encode(),
        "query_string": query.encode(),
        "headers": list(headers),
        "state": {},
    }
    await to(scope, receive, send)
    return Response(sent, count)


async def chunks(size: int, of: bytes = b" ") -> AsyncIterator[bytes]:
    for _ in range(size // 65_536):
        yield of * 65_536


async def test_nothing_of_a_body_is_read_before_the_key_is_known() -> None:
    answer = await ask(app(), "POST", "/v1/deliveries/replay", body=chunks(300 * MIB))
    assert (answer.status, answer.problem, answer.chunks_read) == (401, "Unauthenticated", 0)


@pytest.mark.parametrize("path", ["/v1/deliveries/replay", "/v1/channels/ch-1/business-systems/crm/signature"])
async def test_no_more_of_a_body_is_read_than_a_route_may_get(path: str) -> None:
    answer = await ask(app(), "POST", path, KEY, body=chunks(300 * MIB))
    assert (answer.status, answer.problem, answer.chunks_read) == (413, "BodyTooLarge", 9)
    declared = await ask(app(), "POST", path, KEY, (b"content-length", b"524289"), body=chunks(300 * MIB))
    assert (declared.status, declared.problem, declared.chunks_read) == (413, "BodyTooLarge", 0)


async def test_a_body_that_stays_away_ends_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_memory, "BODY_TIMEOUT_S", 0.05)

    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(30)

    answer = await ask(app(), "POST", "/v1/deliveries/replay", KEY, body=slow())
    assert (answer.status, answer.problem, answer.headers["connection"]) == (408, "RequestTimeout", "close")


@pytest.mark.parametrize(
    "headers",
    [
        (KEY, KEY),
        (KEY, (b"content-length", b"2"), (b"transfer-encoding", b"chunked")),
    ],
)
async def test_what_can_be_read_in_two_ways_is_refused(headers: tuple[tuple[bytes, bytes], ...]) -> None:
    answer = await ask(app(), "GET", "/v1/intents", *headers)
    assert (answer.status, answer.problem) == (400, "RequestAmbiguous")


@pytest.mark.parametrize("path", ["/v1/channels/a%2Fsettings", "/v1/channels%2fa", "/console%2Findex.html"])
async def test_an_encoded_slash_is_no_separator(path: str) -> None:
    answer = await ask(app(), "GET", path, KEY)
    assert (answer.status, answer.problem) == (400, "ParameterInvalid")


@pytest.mark.parametrize("account", [b"a/b", b"", b"~ours", b"a b", b"x" * 129], ids=range(5))
async def test_an_account_that_cannot_exist_is_refused(account: bytes) -> None:
    answer = await ask(app(), "GET", "/v1/intents", KEY, (b"switchboard-account", account))
    assert (answer.status, answer.problem) == (400, "ParameterInvalid")


@pytest.mark.parametrize("path", ["/v1/channels/", "/console", "/docs/", "/healthz/"])
async def test_no_redirect_names_the_host_that_the_request_claims(path: str) -> None:
    answer = await ask(app(), "GET", path, KEY, (b"host", b"evil.example"))
    assert answer.status == 404
    assert "evil.example" not in str(answer.headers)


async def test_a_request_too_many_is_told_when_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_guard, "REFUSAL_DELAY_S", 0)
    gateway = app(requests_per_key=1)
    answers = [await ask(gateway, "GET", "/v1/none", KEY) for _ in range(limits.BURST_S)]
    assert [answer.status for answer in answers] == [404] * limits.BURST_S
    assert answers[0].headers["ratelimit"].startswith('"key";r=9;t=1')
    while (refused := await ask(gateway, "GET", "/v1/none", KEY)).status != 429:
        pass  # on a busy machine one comes back meanwhile
    assert (refused.headers["retry-after"], refused.problem) == ("1", "TooManyRequests")
    assert refused.headers["content-type"] == "application/problem+json"


async def test_every_response_says_how_it_may_be_shown_and_kept() -> None:
    gateway = app()
    for path in ("/", "/docs", "/docs-assets/swagger-ui.css", "/console/icon.svg", "/healthz", "/nowhere", "/v1/none"):
        headers = (await ask(gateway, "GET", path, KEY)).headers
        assert headers["x-content-type-options"] == "nosniff", path
        assert headers["referrer-policy"] == "no-referrer", path
        assert "frame-ancestors 'none'" in headers["content-security-policy"], path
        assert "unsafe" not in headers["content-security-policy"], path
        assert (headers.get("cache-control") == "no-store") == (path == "/v1/none"), path


@pytest.mark.parametrize("path", ["/openapi.json", "/asyncapi.json", "/asyncapi"])
async def test_what_strangers_may_ask_for_is_sent_from_one_copy(path: str) -> None:
    gateway, accept = app(), (b"accept", b"text/html")
    first, second = [await ask(gateway, "GET", path, accept) for _ in range(2)]
    assert first.status == 200
    assert first.pieces[0] is second.pieces[0]

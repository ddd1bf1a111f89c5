"""Receivers that misbehave: a call ends in time, in little memory, with a result."""

from __future__ import annotations

import asyncio
import gzip
import socket
from contextlib import AsyncExitStack

import pytest

from services.domain.url_policy import Allowlist
from services.invoker.delivery.http_call import ANSWER_LIMIT, WebhookClient
from services.invoker.results.retry_policy import Answered, Failed
from tests.raw_receiver import LIMITS, Handler, answering, call_handler, call_url, dripping, endpoint, server


@pytest.mark.parametrize(
    "handler",
    [
        dripping(b"", b""),
        dripping(b"HTTP/1.1 200 OK\r\n", b"X-Slow: 1\r\n"),
        dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"x"),
        dripping(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    ],
    ids=["silence", "slow headers", "slow body", "slow chunks"],
)
async def test_a_slow_answer_times_out(handler: Handler) -> None:
    result, _ = await call_handler(handler)
    assert result == Failed("answer", "no whole answer within 0.8 s")


async def test_an_endless_body_is_cut() -> None:
    async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            await writer.drain()

    result, _ = await call_handler(endless)
    assert isinstance(result, Answered)
    assert (result.status, len(result.answer), result.result) == (200, ANSWER_LIMIT, None)


async def test_a_gzip_bomb_is_not_decompressed() -> None:
    bomb = gzip.compress(bytes(20_000_000))
    head = f"HTTP/1.1 200 OK\nContent-Encoding: gzip\nContent-Length: {len(bomb)}"
    result, _ = await call_handler(answering(head, bomb))
    assert isinstance(result, Answered)
    assert result.result is None
    assert len(result.answer) <= ANSWER_LIMIT


@pytest.mark.parametrize(
    "begin",
    [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", b"HTTP/1.1 200 "],
    ids=["headers", "trailers", "reason"],
)
async def test_endless_heads_and_tails_are_cut(begin: bytes) -> None:
    async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(begin)
        while True:
            writer.write(b"X-Another: header\r\n" * 1_000)
            await writer.drain()

    result, _ = await call_handler(endless)
    assert isinstance(result, Failed)
    assert result.stage == "answer"


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
async def test_redirects_are_not_followed(status: str) -> None:
    seen = 0

    async def again(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        seen += 1
        writer.write(f"HTTP/1.1 {status}\r\nLocation: /\r\nContent-Length: 0\r\n\r\n".encode())

    result, _ = await call_handler(again)
    assert isinstance(result, Answered)
    assert not result.succeeded
    assert seen == 1


async def test_an_empty_answer_is_a_success() -> None:
    result, _ = await call_handler(answering("HTTP/1.1 204 No Content"))
    assert result == Answered(204, b"")


async def test_informational_answers_are_skipped() -> None:
    before = "HTTP/1.1 100 Continue\n\nHTTP/1.1 103 Early Hints\nLink: </style.css>\n\n"
    result, _ = await call_handler(answering(f"{before}HTTP/1.1 200 OK\nContent-Length: 2", b"{}"))
    assert result == Answered(200, b"{}", {})


async def test_a_request_is_one_head_and_its_body() -> None:
    heard = b""

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        heard = await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(2)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(hear, "127.0.0.1", 0) as running:
        port = running.sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}/hook/\N{SNOWMAN}?order=1&a=%20"
        result, _ = await call_url(url, allow=(f"127.0.0.1:{port}",))
    assert result == Answered(200, b"")
    head, _, body = heard.decode().partition("\r\n\r\n")
    line, *fields = head.split("\r\n")
    assert (line, body) == ("POST /hook/%E2%98%83?order=1&a=%20 HTTP/1.1", "{}")
    named = dict(field.split(": ", 1) for field in fields)
    assert len(named) == len(fields)
    assert named.pop("webhook-signature").startswith("v1,")
    assert named.pop("webhook-timestamp").isdigit()
    assert named == {
        "Host": f"127.0.0.1:{port}",
        "User-Agent": "Switchboard/1",
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        "webhook-id": "msg-1",
        "Content-Length": "2",
    }


async def test_an_unrequested_answer_is_not_taken_for_the_next_one() -> None:
    async def twice(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(b"HTTP/1.1 500 Unasked\r\nContent-Length: 0\r\n\r\n")
        await asyncio.sleep(1)

    async with server(twice) as port, WebhookClient(Allowlist.parse([f"127.0.0.1:{port}"]), LIMITS) as client:
        for _ in range(2):
            result = await client.post(endpoint(f"http://127.0.0.1:{port}/"), "msg-1", b"{}")
            assert result == Answered(200, b"")
            await asyncio.sleep(0.2)


async def test_a_connection_answered_before_the_request_was_read_is_not_reused() -> None:
    connections = 0

    async def impatient(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await asyncio.sleep(1)

    async with server(impatient) as port, WebhookClient(Allowlist.parse([f"127.0.0.1:{port}"]), LIMITS) as client:
        for _ in range(2):
            large = b"x" * 16_000_000
            assert await client.post(endpoint(f"http://127.0.0.1:{port}/"), "msg-1", large) == Answered(413, b"")
    assert connections == 2


async def test_a_reset_in_the_body_is_a_failure() -> None:
    async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()
        link = writer.get_extra_info("socket")
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()

    result, _ = await call_handler(reset)
    assert isinstance(result, Failed)
    assert result.stage == "answer"


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"HTTP/1.1 2000 Wow\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"x" * 100_000 + b"\r\n\r\n",
        b"\0" * 50,
    ],
    ids=["another protocol", "no status", "endless header", "zeros"],
)
async def test_an_answer_that_is_not_http_is_a_failure(said: bytes) -> None:
    async def say(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await writer.drain()

    result, _ = await call_handler(say)
    assert isinstance(result, Failed)


@pytest.mark.parametrize(
    ("value", "seconds"), [("7", 7.0), ("-1", None), ("NaN", None), ("1e400", None), ("later", None), ("9" * 50, None)]
)
@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_read_where_it_is_valid(status: int, value: str, seconds: float | None) -> None:
    result, _ = await call_handler(answering(f"HTTP/1.1 {status} Wait\nRetry-After: {value}\nContent-Length: 0"))
    assert isinstance(result, Answered)
    assert (result.status, result.retry_after_s) == (status, seconds)


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (answering("HTTP/1.1 200 OK\nWebhook-Key-Id: k1\nContent-Length: 0"), "k1"),
        (answering("HTTP/1.1 200 OK\nContent-Length: 23", b'{"webhook_key_id":"k1"}'), "k1"),
        (answering("HTTP/1.1 200 OK\nContent-Length: 22", b'{"webhook_key_id":[1]}'), None),
        (answering("HTTP/1.1 200 OK\nContent-Length: 2", b"[]"), None),
    ],
    ids=["header", "field", "no text", "no object"],
)
async def test_a_receiver_may_name_the_signature_that_it_verified(answer: Handler, named: str | None) -> None:
    result, _ = await call_handler(answer)
    assert isinstance(result, Answered)
    assert result.accepted_key == named


async def test_a_closed_keep_alive_connection_is_no_failure() -> None:
    """The server closes right after each answer without saying so; the next call must not suffer."""
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(server(answering("HTTP/1.1 200 OK\nContent-Length: 0")))
        client = await stack.enter_async_context(WebhookClient(Allowlist.parse([f"127.0.0.1:{port}"]), LIMITS))
        for _ in range(5):
            result = await client.post(endpoint(f"http://127.0.0.1:{port}/"), "msg-1", b"{}")
            assert result == Answered(200, b"")


async def test_one_attempt_is_one_call_where_a_fresh_connection_breaks() -> None:
    """A receiver that takes a call and closes without an answer has been called once, as the log says."""
    seen = 0

    async def take(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        nonlocal seen
        seen += 1

    result, _ = await call_handler(take)
    assert isinstance(result, Failed)
    assert result.stage == "answer"
    assert seen == 1


async def test_an_answer_that_nests_deep_is_a_success_without_a_result() -> None:
    deep = b"[" * 300 + b"]" * 300
    result, _ = await call_handler(answering(f"HTTP/1.1 200 OK\nContent-Length: {len(deep)}", deep))
    assert result == Answered(200, deep)


@pytest.mark.parametrize(
    "headers",
    ["X-Long: " + "x" * 9_000, "\n".join(f"X-{number}: y" for number in range(200))],
    ids=["a header of 9,000 bytes", "200 headers"],
)
async def test_a_large_head_is_an_answer(headers: str) -> None:
    result, _ = await call_handler(answering(f"HTTP/1.1 200 OK\n{headers}\nContent-Length: 0"))
    assert isinstance(result, Answered)
    assert result.succeeded


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ("X-Long: " + "x" * 70_000, "its head has a line of more than 64 KiB"),
        ("\n".join(f"X-{number}: y" for number in range(1_200)), "its head has more than 1,000 headers"),
    ],
    ids=["a header of 70,000 bytes", "1,200 headers"],
)
async def test_a_head_that_is_too_large_is_named(headers: str, error: str) -> None:
    result, _ = await call_handler(answering(f"HTTP/1.1 200 OK\n{headers}\nContent-Length: 0"))
    assert result == Failed("answer", error)


async def test_a_url_is_sent_byte_for_byte() -> None:
    lines: list[bytes] = []

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append(await reader.readline())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    running = await asyncio.start_server(keep, "127.0.0.1", 0)
    async with running:
        port = running.sockets[0].getsockname()[1]
        path = "/h/%2e%2e/x?sp=%2Fx&sig=a%2Bb%3D~"
        result, _ = await call_url(f"http://127.0.0.1:{port}{path}", allow=(f"127.0.0.1:{port}",))
    assert isinstance(result, Answered)
    assert lines == [f"POST {path} HTTP/1.1\r\n".encode()]

"""Receivers and networks that misbehave: a call ends in time, in little memory, with an outcome, and leaks nothing."""

from __future__ import annotations

import asyncio
import errno
import gzip
import os
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from services.domain.address import Allowances, refusal_of_url
from services.infrastructure.embedded.process import free_port
from services.invoker.call import ANSWER_LIMIT, Caller
from services.invoker.endpoints import Endpoint, LiveSignature
from services.invoker.outcomes import Answered, Failed
from services.invoker.pace import Pace
from services.invoker.resolving import addresses_behind

PACE = Pace(connect=0.4, total=0.8)
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
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await running.wait_closed()


def endpoint(url: str) -> Endpoint:
    return Endpoint(url, "standard-webhooks", disabled=False, signatures=(LiveSignature("k1", SECRET),))


async def called(url: str, *, allow: tuple[str, ...] = (), **options: Any) -> tuple[Answered | Failed, float]:
    """What came of a call, and the seconds that it took."""
    began = time.monotonic()
    async with Caller(Allowances.parse(allow), PACE, **options) as caller:
        ended = await caller.call(endpoint(url), "msg-1", b"{}")
        took = time.monotonic() - began
    await asyncio.sleep(0)
    return ended, took


async def call(handler: Handler) -> tuple[Answered | Failed, float]:
    async with server(handler) as port:
        return await called(f"http://127.0.0.1:{port}/", allow=(f"127.0.0.1:{port}",))


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
async def test_slowness_ends_with_the_time_out(handler: Handler) -> None:
    ended, took = await call(handler)
    assert ended == Failed("answer", "no whole answer within 0.8 s")
    assert took < 3


async def test_an_endless_body_is_cut() -> None:
    async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            await writer.drain()

    ended, _ = await call(endless)
    assert isinstance(ended, Answered)
    assert (ended.status, len(ended.answer), ended.result) == (200, ANSWER_LIMIT, None)


async def test_a_gzip_bomb_stays_packed() -> None:
    bomb = gzip.compress(bytes(20_000_000))
    head = f"HTTP/1.1 200 OK\nContent-Encoding: gzip\nContent-Length: {len(bomb)}"
    ended, _ = await call(answering(head, bomb))
    assert isinstance(ended, Answered)
    assert ended.result is None
    assert len(ended.answer) <= ANSWER_LIMIT


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

    ended, took = await call(endless)
    assert isinstance(ended, Failed)
    assert ended.stage == "answer"
    assert took < 3


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
async def test_redirects_are_not_followed(status: str) -> None:
    seen = 0

    async def again(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        seen += 1
        writer.write(f"HTTP/1.1 {status}\r\nLocation: /\r\nContent-Length: 0\r\n\r\n".encode())

    ended, _ = await call(again)
    assert isinstance(ended, Answered)
    assert not ended.succeeded
    assert seen == 1


async def test_an_empty_answer_is_a_success() -> None:
    ended, _ = await call(answering("HTTP/1.1 204 No Content"))
    assert ended == Answered(204, b"")


async def test_what_comes_before_an_answer_is_none() -> None:
    before = "HTTP/1.1 100 Continue\n\nHTTP/1.1 103 Early Hints\nLink: </style.css>\n\n"
    ended, _ = await call(answering(f"{before}HTTP/1.1 200 OK\nContent-Length: 2", b"{}"))
    assert ended == Answered(200, b"{}", {})


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
        ended, _ = await called(url, allow=(f"127.0.0.1:{port}",))
    assert ended == Answered(200, b"")
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


async def test_an_answer_that_nobody_asked_for_is_none_to_the_next_call() -> None:
    async def twice(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(b"HTTP/1.1 500 Unasked\r\nContent-Length: 0\r\n\r\n")
        await asyncio.sleep(1)

    async with server(twice) as port, Caller(Allowances.parse([f"127.0.0.1:{port}"]), PACE) as caller:
        for _ in range(2):
            ended = await caller.call(endpoint(f"http://127.0.0.1:{port}/"), "msg-1", b"{}")
            assert ended == Answered(200, b"")
            await asyncio.sleep(0.2)


async def test_an_answer_before_all_was_read_leaves_no_connection_to_go_on_with() -> None:
    connections = 0

    async def impatient(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await asyncio.sleep(1)

    async with server(impatient) as port, Caller(Allowances.parse([f"127.0.0.1:{port}"]), PACE) as caller:
        for _ in range(2):
            large = b"x" * 16_000_000
            assert await caller.call(endpoint(f"http://127.0.0.1:{port}/"), "msg-1", large) == Answered(413, b"")
    assert connections == 2


async def test_a_reset_in_the_body_is_a_failure() -> None:
    async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()
        link = writer.get_extra_info("socket")
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()

    ended, _ = await call(reset)
    assert isinstance(ended, Failed)
    assert ended.stage == "answer"


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
async def test_no_http_is_a_failure(said: bytes) -> None:
    async def say(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await writer.drain()

    ended, _ = await call(say)
    assert isinstance(ended, Failed)


@pytest.mark.parametrize(
    ("value", "seconds"), [("7", 7.0), ("-1", None), ("NaN", None), ("1e400", None), ("later", None), ("9" * 50, None)]
)
@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_read_where_it_is_one(status: int, value: str, seconds: float | None) -> None:
    ended, _ = await call(answering(f"HTTP/1.1 {status} Wait\nRetry-After: {value}\nContent-Length: 0"))
    assert isinstance(ended, Answered)
    assert (ended.status, ended.retry_after_s) == (status, seconds)


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
    ended, _ = await call(answer)
    assert isinstance(ended, Answered)
    assert ended.named_key == named


async def test_a_connection_kept_alive_that_was_closed_is_no_failure() -> None:
    """The server closes right after each answer without saying so; the next call must not suffer."""
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(server(answering("HTTP/1.1 200 OK\nContent-Length: 0")))
        caller = await stack.enter_async_context(Caller(Allowances.parse([f"127.0.0.1:{port}"]), PACE))
        for _ in range(5):
            ended = await caller.call(endpoint(f"http://127.0.0.1:{port}/"), "msg-1", b"{}")
            assert ended == Answered(200, b"")


async def test_one_attempt_is_one_call_where_a_fresh_connection_breaks() -> None:
    """A receiver that takes a call and closes without an answer has been called once, as the log says."""
    seen = 0

    async def take(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        nonlocal seen
        seen += 1

    ended, _ = await call(take)
    assert isinstance(ended, Failed)
    assert ended.stage == "answer"
    assert seen == 1


async def test_an_answer_that_nests_deep_is_a_success_without_a_result() -> None:
    deep = b"[" * 300 + b"]" * 300
    ended, _ = await call(answering(f"HTTP/1.1 200 OK\nContent-Length: {len(deep)}", deep))
    assert ended == Answered(200, deep)


async def test_nobody_listens() -> None:
    port = free_port()
    ended, _ = await called(f"http://127.0.0.1:{port}/", allow=(f"127.0.0.1:{port}",))
    assert isinstance(ended, Failed)
    assert ended.stage == "connect"


async def test_a_black_hole_on_the_way() -> None:
    """A listener whose queue of connections is full: dialling hangs."""
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen(0)
        port = hole.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.settimeout(0)
                filler.connect_ex(("127.0.0.1", port))
            ended, took = await called(f"http://127.0.0.1:{port}/", allow=(f"127.0.0.1:{port}",))
        finally:
            for filler in fillers:
                filler.close()
    assert ended == Failed("connect", "no connection within 0.4 s")
    assert took < 2


def _answers(*addresses: str) -> Callable[..., list[tuple[Any, ...]]]:
    def look_up(_: str, port: int, __: object) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    return look_up


@pytest.mark.parametrize("addresses", [("127.0.0.1",), ("93.184.215.14", "10.0.0.1"), ("169.254.169.254", "1.1.1.1")])
async def test_a_name_that_leads_inside_is_refused(addresses: tuple[str, ...]) -> None:
    ended, _ = await called("https://crm.example/", look_up=_answers(*addresses))
    assert isinstance(ended, Failed)
    assert ended.stage == "address"
    assert "private or reserved" in ended.error


async def test_rebinding_between_attempts_is_refused_at_the_dial() -> None:
    """The name was allowed by its host at first; then it leads to our own server."""
    seen = 0

    async def count(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        seen += 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    async with server(count) as port:
        allowances = Allowances.parse([f"rebind.example:{port}"], never=[])
        own = Allowances.parse([f"rebind.example:{port}"], never=[f"127.0.0.1:{port}"])
        for allowed, expected in ((allowances, True), (own, False)):
            async with Caller(allowed, PACE, look_up=_answers("127.0.0.1")) as caller:
                ended = await caller.call(endpoint(f"http://rebind.example:{port}/"), "msg-1", b"{}")
            assert isinstance(ended, Answered) is expected
    assert seen == 1


async def test_our_own_servers_are_refused_by_their_addresses_too() -> None:
    """The operator's allow-list is wide, and our own broker is known by its name."""
    behind = await addresses_behind(["broker.internal:9092", "[::1]:8080"], _answers("10.1.2.3"))
    allowances = Allowances.parse(["10.0.0.0/8:9092"], never=["broker.internal:9092", *behind])
    for url in ("http://10.1.2.3:9092/", "http://[::ffff:10.1.2.3]:9092/", "http://broker.internal:9092/"):
        async with Caller(allowances, PACE, look_up=_answers("10.1.2.3")) as caller:
            ended = await caller.call(endpoint(url), "msg-1", b"{}")
        assert ended == Failed("address", "it leads to a server of this product itself")
    assert refusal_of_url("http://10.1.2.4:9092/", allowances) is None


async def test_an_unknown_name_is_the_receivers_fault_and_a_silent_name_server_is_not() -> None:
    def unknown(*_: object) -> list[tuple[Any, ...]]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    def silent(*_: object) -> list[tuple[Any, ...]]:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    ended, _ = await called("https://nowhere.example/", look_up=unknown)
    assert ended == Failed("address", "its name does not resolve")
    ended, _ = await called("https://nowhere.example/", look_up=silent)
    assert ended == Failed("address", "its name could not be looked up at the moment", ours=True)


async def test_a_name_whose_own_server_is_silent_is_charged_while_others_are_answered() -> None:
    def look_up(host: str, *_: object) -> list[tuple[Any, ...]]:
        if host == "silent.example":
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async with Caller(Allowances(), PACE, look_up=look_up) as caller:
        found = [
            await caller.call(endpoint(f"https://{name}.example/"), "msg-1", b"{}")
            for name in ("silent", "other", "silent")
        ]
    assert [one.ours for one in found if isinstance(one, Failed)] == [True, False, False]


async def test_a_name_is_looked_up_once_however_many_want_it_and_costs_nobody_else() -> None:
    silence = threading.Event()
    asked: list[str] = []

    def look_up(host: str, port: int, _: object) -> list[tuple[Any, ...]]:
        asked.append(host)
        if host == "silent.example":
            silence.wait(10)
        return _answers("127.0.0.1")(host, port, None)

    try:
        async with (
            server(answering("HTTP/1.1 200 OK\nContent-Length: 0")) as port,
            Caller(Allowances.parse([f"quick.example:{port}"]), PACE, look_up=look_up) as caller,
        ):
            silent = [
                asyncio.create_task(caller.call(endpoint("https://silent.example/"), "msg-1", b"{}"))
                for _ in range(200)
            ]
            await asyncio.sleep(0)
            assert await caller.call(endpoint(f"http://quick.example:{port}/"), "msg-1", b"{}") == Answered(200, b"")
            ended = set(await asyncio.gather(*silent))
    finally:
        silence.set()
    assert ended == {Failed("address", "its name was not looked up within 0.4 s")}
    assert asked == ["silent.example", "quick.example"]


@pytest.mark.parametrize("allowed", ["crm.example", "crm.example."])
async def test_a_name_that_ends_in_a_dot_is_the_same_name(allowed: str) -> None:
    async with server(answering("HTTP/1.1 200 OK\nContent-Length: 0")) as port:
        url, allow = f"http://crm.example.:{port}/", (f"{allowed}:{port}",)
        ended, _ = await called(url, allow=allow, look_up=_answers("127.0.0.1"))
    assert ended == Answered(200, b"")


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENETUNREACH, errno.EADDRNOTAVAIL])
async def test_what_we_lack_is_not_held_against_a_receiver(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def lacking(*_: object) -> socket.socket:
        raise OSError(code, os.strerror(code))

    async with server(answering("HTTP/1.1 200 OK\nContent-Length: 0")) as port:
        monkeypatch.setattr(Caller, "_judged_socket", lacking)
        ended, _ = await called(f"http://127.0.0.1:{port}/", allow=(f"127.0.0.1:{port}",))
    assert isinstance(ended, Failed)
    assert (ended.stage, ended.ours) == ("connect", True)


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1/", "https://10.0.0.1/", "https://[::ffff:127.0.0.1]/", "https://0x7f.1/", "ftp://a.example/"],
)
async def test_a_refused_address_is_not_dialled(url: str) -> None:
    ended, _ = await called(url)
    assert isinstance(ended, Failed)
    assert ended.stage == "address"


def _certificate(directory: Path, name: str, *, days: int) -> ssl.SSLContext:
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    from tests.certificates import write_certificate

    write_certificate(certificate, key, name, days=days)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@pytest.mark.parametrize(
    ("name", "days", "trusted", "succeeds"),
    [
        ("crm.example", 30, True, True),
        ("crm.example", 30, False, False),
        ("crm.example", -1, True, False),
        ("other.example", 30, True, False),
    ],
    ids=["good", "self-signed", "expired", "another's"],
)
async def test_certificates_are_verified(tmp_path: Path, name: str, days: int, trusted: bool, succeeds: bool) -> None:  # noqa: FBT001
    context = ssl.create_default_context()
    serving = _certificate(tmp_path, name, days=days)
    if trusted:
        context.load_verify_locations(tmp_path / f"{name}.pem")
    async with server(answering("HTTP/1.1 204 No Content"), serving) as port:
        ended, _ = await called(
            f"https://crm.example:{port}/", allow=(f"crm.example:{port}",), tls=context, look_up=_answers("127.0.0.1")
        )
    if succeeds:
        assert ended == Answered(204, b"")
    else:
        assert isinstance(ended, Failed)
        assert ended.stage == "tls"

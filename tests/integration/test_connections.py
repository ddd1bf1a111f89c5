"""Raw sockets against a gateway's HTTP server: half requests, too many, too large, ambiguous, slow; and TLS."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn
import uvloop
from fastapi import FastAPI, Request, Response
from starlette.types import Receive, Scope, Send

from services.gateway.http_server import MAX_HEAD_BYTES, http_server
from services.gateway.unread_answers import send_until_taken
from services.infrastructure.config import Settings, SettingsError
from services.infrastructure.library_internals import tls_handshake
from services.infrastructure.library_internals import uvicorn as internals
from tests.certificates import write_certificate
from tests.patience import PATIENCE_S

HALF = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
NAME = "gateway.example"
WHOLE = HALF + b"\r\n"

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def served(
    connections: int = 100, settings: Settings | None = None, *, patient: bool = False, app: FastAPI | None = None
) -> AsyncIterator[int]:
    """Serves a small application. Yields its port. Ends by itself if it is ``patient``, and else at once."""
    app = app or FastAPI()

    @app.get("/healthz")
    async def healthz() -> str:
        return "ok"

    @app.get("/large")
    async def large() -> str:
        return "x" * 20_000_000

    @app.get("/client")
    async def client(request: Request) -> list[str | None]:
        return [request.client and request.client.host, request.url.scheme]

    listener = socket.create_server(("127.0.0.1", 0))
    server: uvicorn.Server = http_server(app, connections, settings or Settings())
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit, server.force_exit = True, not patient
        await serving


async def sent(port: int, text: bytes) -> Connection:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(text)
    return reader, writer


async def answer_of(connection: Connection) -> bytes:
    """All that comes until the server closes."""
    async with asyncio.timeout(PATIENCE_S):
        text = await connection[0].read()
    connection[1].close()
    return text


async def test_half_sent_requests_neither_keep_others_out_nor_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(internals, "HEADER_TIMEOUT_S", 1.0)
    async with served(connections=20) as port:
        halves = [await sent(port, HALF) for _ in range(20)]
        await asyncio.sleep(0.2)
        refused = await answer_of(await sent(port, b""))
        assert refused.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"retry-after: 5\r\n" in refused
        assert b"urn:switchboard:problem:TooManyConnections" in refused
        answers = [await answer_of(one) for one in halves]
        assert all(one.startswith(b"HTTP/1.1 408 ") for one in answers)
        reader, writer = await sent(port, WHOLE)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_the_second_request_of_a_connection_has_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(internals, "HEADER_TIMEOUT_S", 0.5)
    async with served() as port:
        connection = await sent(port, WHOLE + HALF)
        for _ in range(4):  # a byte now and then does not win time
            await asyncio.sleep(0.1)
            connection[1].write(b"X")
        answers = await answer_of(connection)
        assert [one in answers for one in (b"HTTP/1.1 200 ", b"HTTP/1.1 408 ")] == [True, True]


async def test_a_body_that_goes_on_after_its_response_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(internals, "HEADER_TIMEOUT_S", 0.5)
    async with served() as port:
        reader, writer = await sent(port, b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
        ended = asyncio.create_task(answer_of((reader, writer)))
        for _ in range(30):
            if ended.done():
                break
            writer.write(b"x")
            await asyncio.sleep(0.1)
        assert (await ended).startswith(b"HTTP/1.1 404 ")


async def test_a_client_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(internals, "WRITE_TIMEOUT_S", 0.5)
    async with served() as port:
        reader, writer = await sent(port, b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.sleep(1.5)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(20_000_000)
        writer.close()


async def test_nothing_of_a_body_is_taken_that_nobody_asked_for() -> None:
    app, all_sent = FastAPI(), asyncio.Event()

    @app.post("/pieces")
    async def pieces(request: Request) -> list[int]:
        await all_sent.wait()
        return [len(piece) async for piece in request.stream()]

    async with served(app=app) as port:
        body = b"x" * 400_000
        head = b"POST /pieces HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 400000\r\n\r\n"
        reader, writer = await sent(port, head + body)
        await writer.drain()
        for _ in range(100):  # of the server's turns: as often it could have read
            await asyncio.sleep(0)
        all_sent.set()
        found = json.loads((await answer_of((reader, writer))).rpartition(b"\r\n")[2])
    assert sum(found) == len(body)
    assert max(found) <= 2 * internals.READ_BYTES


async def test_an_answer_is_taken_once_its_client_has_read_it() -> None:
    app, was_taken = FastAPI(), asyncio.Event()

    class Large(Response):
        async def __call__(self, _: Scope, __: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send_until_taken(send, {"type": "http.response.body", "body": bytes(40_000_000)})
            was_taken.set()

    @app.get("/answer")
    async def answer() -> Response:
        return Large()

    async with served(app=app) as port:
        connection = await sent(port, b"GET /answer HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        await connection[0].readexactly(1_000)
        assert not was_taken.is_set()
        await answer_of(connection)
        async with asyncio.timeout(PATIENCE_S):
            await was_taken.wait()


@pytest.mark.parametrize(
    "head",
    [
        HALF + b"X: " + b"x" * MAX_HEAD_BYTES,
        b"nonsense\r\n\r\n",
        HALF + b"Host: y\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    ],
)
async def test_what_is_no_request_is_a_problem_and_the_end(head: bytes) -> None:
    async with served() as port:
        answer = await answer_of(await sent(port, head))
        assert answer[:13] in (b"HTTP/1.1 400 ", b"HTTP/1.1 501 ")
        assert b"application/problem+json" in answer


@pytest.mark.parametrize(
    ("trusted", "client"),
    [
        ("", b'["127.0.0.1","http"]'),
        ("10.0.0.7,192.0.2.0/24", b'["127.0.0.1","http"]'),
        ("10.0.0.7,127.0.0.0/8", b'["192.0.2.1","https"]'),
        ("127.0.0.1,192.0.2.1", b'["198.51.100.1","https"]'),
    ],
)
async def test_a_client_is_where_a_trusted_proxy_saw_it_and_nobody_else(trusted: str, client: bytes) -> None:
    settings = Settings.from_environment({"SWITCHBOARD_HTTP_TRUSTED_PROXIES": trusted})
    claims = (
        b"GET /client HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Forwarded-Proto: https\r\n"
        b"X-Forwarded-For: 203.0.113.9, 198.51.100.1, 192.0.2.1\r\nX-Real-IP: 203.0.113.9\r\n"
        b"Forwarded: for=203.0.113.9;proto=https\r\nX-Forwarded-Host: evil.example\r\n\r\n"
    )
    async with served(settings=settings) as port:
        assert (await answer_of(await sent(port, claims))).endswith(client)


@pytest.fixture
def tls(tmp_path: Path) -> tuple[Settings, ssl.SSLContext]:
    """A gateway's settings with a certificate, and a client that trusts it."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    write_certificate(certificate, key, NAME, days=1)
    settings = Settings(http_tls_certificate=str(certificate), http_tls_key=str(key))
    return settings, ssl.create_default_context(cafile=str(certificate))


async def status_over_tls(port: int, trusting: ssl.SSLContext) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting, server_hostname=NAME)
    writer.write(WHOLE)
    line = await reader.readline()
    writer.close()
    return line


async def test_tls(tls: tuple[Settings, ssl.SSLContext]) -> None:
    settings, trusting = tls
    async with served(settings=settings) as port:
        assert (await status_over_tls(port, trusting)).startswith(b"HTTP/1.1 200 ")
        with pytest.raises(ssl.SSLCertVerificationError):
            await status_over_tls(port, ssl.create_default_context())
        assert b"HTTP" not in await answer_of(await sent(port, WHOLE))


async def test_a_request_that_comes_with_the_end_of_the_handshake(tls: tuple[Settings, ssl.SSLContext]) -> None:
    settings, trusting = tls
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(incoming, outgoing, server_hostname=NAME)
    async with served(settings=settings) as port:
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        reader, writer = await sent(port, outgoing.read())
        while client.version() is None or outgoing.pending == 0:
            incoming.write(await reader.read(65_536))
            with contextlib.suppress(ssl.SSLWantReadError):
                client.do_handshake()
        client.write(WHOLE)
        writer.write(outgoing.read())
        answer = b""
        while b"200 OK" not in answer:
            incoming.write(await asyncio.wait_for(reader.read(65_536), 5))
            with contextlib.suppress(ssl.SSLWantReadError):
                answer += client.read(65_536)
        writer.close()


async def test_half_done_handshakes_neither_exceed_the_connections_nor_stay(
    tls: tuple[Settings, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_handshake, "HANDSHAKE_TIMEOUT_S", 2.0)
    settings, trusting = tls
    async with served(connections=20, settings=settings) as port:
        halves = [await sent(port, b"\x16\x03\x01") for _ in range(20)]
        await asyncio.sleep(0.2)
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await status_over_tls(port, trusting)
        assert [await answer_of(one) for one in halves] == [b""] * 20
        assert (await status_over_tls(port, trusting)).startswith(b"HTTP/1.1 200 ")


async def test_half_done_handshakes_do_not_hold_up_the_end(
    tls: tuple[Settings, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_handshake, "HANDSHAKE_TIMEOUT_S", 10 * PATIENCE_S)
    async with asyncio.timeout(PATIENCE_S):
        async with served(settings=tls[0], patient=True) as port:
            half = await sent(port, b"\x16\x03\x01")
            await asyncio.sleep(0.2)
        half[1].close()


def test_tls_in_the_event_loop_of_the_service(
    tls: tuple[Settings, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transports and the TLS of uvloop are other code than asyncio's."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(test_tls(tls))
        runner.run(test_a_request_that_comes_with_the_end_of_the_handshake(tls))
        runner.run(test_half_done_handshakes_neither_exceed_the_connections_nor_stay(tls, monkeypatch))
        runner.run(test_half_done_handshakes_do_not_hold_up_the_end(tls, monkeypatch))


def test_a_certificate_that_cannot_be_used_is_named_at_start(tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    write_certificate(certificate, key, "gateway.example", days=1)
    with pytest.raises(SettingsError, match="both, or neither"):
        http_server(FastAPI(), 10, Settings(http_tls_certificate=str(certificate)))
    key.write_text("none")
    with pytest.raises(SettingsError, match="PEM files"):
        http_server(FastAPI(), 10, Settings(http_tls_certificate=str(certificate), http_tls_key=str(key)))

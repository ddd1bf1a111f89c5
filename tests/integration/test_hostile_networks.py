"""Names, addresses and certificates that misbehave: nothing private is dialled, and faults are attributed."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest

from services.domain.url_policy import TARGET_REFUSED, Allowlist, url_refusal
from services.infrastructure.embedded.process import free_port
from services.invoker.delivery.dns import resolve_addresses
from services.invoker.delivery.http_call import WebhookClient
from services.invoker.results.retry_policy import Answered, Failed
from tests.certificates import write_certificate
from tests.patience import PATIENCE_S
from tests.raw_receiver import LIMITS, addresses_of, answering, call_url, endpoint, server


async def test_a_closed_port() -> None:
    port = free_port()
    result, _ = await call_url(f"http://127.0.0.1:{port}/", allow=(f"127.0.0.1:{port}",))
    assert result == Failed("connect", "no connection")
    assert isinstance(result, Failed)
    assert result.detail == f"no connection to 127.0.0.1 ({os.strerror(errno.ECONNREFUSED)})"


async def test_a_host_that_does_not_respond() -> None:
    """A listener whose queue of connections is full: dialling hangs. Inside, it reads like a closed port."""
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen(0)
        port = hole.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.settimeout(0)
                filler.connect_ex(("127.0.0.1", port))
            result, took = await call_url(f"http://127.0.0.1:{port}/", allow=(f"127.0.0.1:{port}",))
        finally:
            for filler in fillers:
                filler.close()
    assert result == Failed("connect", "no connection")
    assert took < PATIENCE_S, "the system itself gives up after two minutes"


@pytest.mark.parametrize("addresses", [("127.0.0.1",), ("93.184.215.14", "10.0.0.1"), ("169.254.169.254", "1.1.1.1")])
async def test_a_name_with_a_private_address_is_refused(addresses: tuple[str, ...]) -> None:
    result, _ = await call_url("https://crm.example/", lookup=addresses_of(*addresses))
    assert result == Failed("address", TARGET_REFUSED)


async def test_rebinding_between_attempts_is_refused_at_the_dial() -> None:
    """The name was allowed by its host at first; then it leads to our own server."""
    seen = 0

    async def count(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        seen += 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    async with server(count) as port:
        allowlist = Allowlist.parse([f"rebind.example:{port}"], never=[])
        own = Allowlist.parse([f"rebind.example:{port}"], never=[f"127.0.0.1:{port}"])
        for allowed, expected in ((allowlist, True), (own, False)):
            async with WebhookClient(allowed, LIMITS, lookup=addresses_of("127.0.0.1")) as client:
                result = await client.post(endpoint(f"http://rebind.example:{port}/"), "msg-1", b"{}")
            assert isinstance(result, Answered) is expected
    assert seen == 1


async def test_own_servers_are_refused_by_their_addresses() -> None:
    """The operator's allow-list is wide, and our own broker is known by its name."""
    behind = await resolve_addresses(["broker.internal:9092", "[::1]:8080"], addresses_of("10.1.2.3"))
    allowlist = Allowlist.parse(["10.0.0.0/8:9092"], never=["broker.internal:9092", *behind])
    for url in ("http://10.1.2.3:9092/", "http://[::ffff:10.1.2.3]:9092/", "http://broker.internal:9092/"):
        async with WebhookClient(allowlist, LIMITS, lookup=addresses_of("10.1.2.3")) as client:
            result = await client.post(endpoint(url), "msg-1", b"{}")
        refusal = url_refusal(url, Allowlist())
        assert refusal is not None
        assert result == Failed("address", refusal.clause)
    assert url_refusal("http://10.1.2.4:9092/", allowlist) is None


async def test_an_unknown_name_is_the_receivers_fault_and_a_silent_name_server_is_ours() -> None:
    def unknown(*_: object) -> list[tuple[Any, ...]]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    def silent(*_: object) -> list[tuple[Any, ...]]:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    result, _ = await call_url("https://nowhere.example/", lookup=unknown)
    assert result == Failed("address", TARGET_REFUSED)
    result, _ = await call_url("https://nowhere.example/", lookup=silent)
    assert result == Failed("address", "its name could not be looked up at the moment", our_fault=True)


async def test_a_silent_name_server_is_the_receivers_fault_while_others_answer() -> None:
    def lookup(host: str, *_: object) -> list[tuple[Any, ...]]:
        if host == "silent.example":
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async with WebhookClient(Allowlist(), LIMITS, lookup=lookup) as client:
        found = [
            await client.post(endpoint(f"https://{name}.example/"), "msg-1", b"{}")
            for name in ("silent", "other", "silent")
        ]
    assert [one.our_fault for one in found if isinstance(one, Failed)] == [True, False, False]


async def test_concurrent_calls_share_a_look_up_and_delay_no_others() -> None:
    silence = threading.Event()
    asked: list[str] = []

    def lookup(host: str, port: int, _: object) -> list[tuple[Any, ...]]:
        asked.append(host)
        if host == "silent.example":
            silence.wait(10)
        return addresses_of("127.0.0.1")(host, port, None)

    try:
        async with (
            server(answering("HTTP/1.1 200 OK\nContent-Length: 0")) as port,
            WebhookClient(Allowlist.parse([f"quick.example:{port}"]), LIMITS, lookup=lookup) as client,
        ):
            silent = [
                asyncio.create_task(client.post(endpoint("https://silent.example/"), "msg-1", b"{}"))
                for _ in range(200)
            ]
            await asyncio.sleep(0)
            assert await client.post(endpoint(f"http://quick.example:{port}/"), "msg-1", b"{}") == Answered(200, b"")
            result = set(await asyncio.gather(*silent))
    finally:
        silence.set()
    assert result == {Failed("address", "its name was not looked up within 0.4 s")}
    assert asked == ["silent.example", "quick.example"]


@pytest.mark.parametrize("allowed", ["crm.example", "crm.example."])
async def test_a_name_that_ends_in_a_dot_is_the_same_name(allowed: str) -> None:
    async with server(answering("HTTP/1.1 200 OK\nContent-Length: 0")) as port:
        url, allow = f"http://crm.example.:{port}/", (f"{allowed}:{port}",)
        result, _ = await call_url(url, allow=allow, lookup=addresses_of("127.0.0.1"))
    assert result == Answered(200, b"")


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENETUNREACH, errno.EADDRNOTAVAIL])
async def test_a_lack_of_local_resources_is_our_own_fault(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def lacking(*_: object) -> socket.socket:
        raise OSError(code, os.strerror(code))

    async with server(answering("HTTP/1.1 200 OK\nContent-Length: 0")) as port:
        monkeypatch.setattr(WebhookClient, "_guarded_socket", lacking)
        result, _ = await call_url(f"http://127.0.0.1:{port}/", allow=(f"127.0.0.1:{port}",))
    assert isinstance(result, Failed)
    assert (result.stage, result.our_fault) == ("connect", True)


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1/", "https://10.0.0.1/", "https://[::ffff:127.0.0.1]/", "https://0x7f.1/", "ftp://a.example/"],
)
async def test_a_refused_address_is_not_dialled(url: str) -> None:
    result, _ = await call_url(url)
    assert isinstance(result, Failed)
    assert result.stage == "address"


def certificate(directory: Path, name: str, *, days: int) -> ssl.SSLContext:
    path, key = directory / f"{name}.pem", directory / f"{name}.key"
    write_certificate(path, key, name, days=days)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, key)
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
    serving = certificate(tmp_path, name, days=days)
    if trusted:
        context.load_verify_locations(tmp_path / f"{name}.pem")
    async with server(answering("HTTP/1.1 204 No Content"), serving) as port:
        result, _ = await call_url(
            f"https://crm.example:{port}/",
            allow=(f"crm.example:{port}",),
            tls=context,
            lookup=addresses_of("127.0.0.1"),
        )
    if succeeds:
        assert result == Answered(204, b"")
    else:
        assert isinstance(result, Failed)
        assert result.stage == "tls"

"""One signed call: guarded at every dial, bounded in time and size, and leaking nothing that it is told.

aiohttp dials, keeps connections and reads answers; its session (cookies, redirects, proxies, traces, merged headers)
costs more than all of that, and is left out: a request is a head and a body, written at once.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import time
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp.http import HttpProcessingError, RawResponseMessage
from yarl import URL

from services.domain.address import Allowances, Target, refusal_of_address, refusal_of_url, target_of
from services.domain.signing import plain_token, webhook_signature
from services.invoker.blackout import blacked_out
from services.invoker.endpoints import Endpoint
from services.invoker.outcomes import Answered, Failed, retry_after
from services.invoker.pace import PACE, Pace
from services.invoker.resolving import AddressRefused, JudgingResolver, LookUp, NameServerFailed, look_up

ANSWER_LIMIT = 64 * 1024
_BEYOND = 1024
"""Read beyond the limit, so that a secret that lies across it is recognised before the answer is cut."""
_STALE_AT_MOST = 10
_URLS_REMEMBERED = 10_000
_OURS = frozenset(
    (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.ENETDOWN, errno.ENETUNREACH)
)
"""We have no files, memory, ports or network left: nothing that a receiver could help."""
_KEY_NAME_LIMIT = 128
_ALWAYS = "User-Agent: Switchboard/1\r\nAccept: */*\r\nAccept-Encoding: identity\r\nContent-Type: application/json\r\n"
_SWITCHING = 101
"""Of the statuses that come before an answer the one that is the last of its connection."""
KEY_HEADER = "webhook-key-id"
KEY_FIELD = "webhook_key_id"
"""Where a receiver may name the signature that it verified, by key id or fingerprint."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a URL leads: whom the connector dials for it, and how each request to it begins."""

    target: Target
    key: aiohttp.ClientRequest
    head: str


@dataclass(slots=True)
class _Dialling:
    """What the current task's attempt leads to, and whether it has dialled, or still uses a connection kept alive."""

    target: Target
    dialled: bool = False


_dialling: ContextVar[_Dialling] = ContextVar("dialling")


class Caller:
    """Makes signed calls; an async context manager."""

    def __init__(
        self,
        allowances: Allowances,
        pace: Pace = PACE,
        *,
        tls: ssl.SSLContext | None = None,
        look_up: LookUp = look_up,
    ) -> None:
        self._allowances, self._pace, self._look_up = allowances, pace, look_up
        self._tls = tls or ssl.create_default_context()
        self._times = aiohttp.ClientTimeout(total=None, sock_connect=pace.connect)
        self._connector: aiohttp.TCPConnector | None = None
        # The same for every attempt; what is dialled is judged each time.
        self._place = lru_cache(_URLS_REMEMBERED)(self._judged_place)

    async def __aenter__(self) -> Self:
        self._connector = aiohttp.TCPConnector(
            limit=0,
            resolver=JudgingResolver(self._allowances, self._look_up, self._pace.connect),
            socket_factory=self._judged_socket,
            ssl=self._tls,
            use_dns_cache=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connector is not None:
            await self._connector.close()

    async def call(self, endpoint: Endpoint, webhook_id: str, body: bytes) -> Answered | Failed:
        """One POST, with every signature that is valid now. Never raises for what a receiver or a network does."""
        place = self._place(endpoint.api_request_url)
        if isinstance(place, str):
            return Failed("address", place)
        headers = signature_headers(endpoint, webhook_id, body)
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        request = f"{place.head}{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body
        try:
            async with asyncio.timeout(self._pace.total):
                return await self._post_freshly(place, request, endpoint, headers)
        except AddressRefused as error:
            return Failed("address", str(error))
        except aiohttp.ClientConnectorError as error:
            return self._connect_failure(error)
        except TimeoutError as error:
            if isinstance(error, aiohttp.ConnectionTimeoutError):
                return Failed("connect", f"no connection within {self._pace.connect:g} s")
            return Failed("answer", f"no whole answer within {self._pace.total:g} s")
        except (aiohttp.ClientError, HttpProcessingError, OSError, ValueError) as error:
            return Failed("answer", f"the connection broke ({type(error).__name__})")

    async def _post_freshly(
        self, place: _Place, request: bytes, endpoint: Endpoint, headers: dict[str, str]
    ) -> Answered:
        """A connection kept alive may have been closed just before we use it: that is nobody's failure."""
        for _ in range(_STALE_AT_MOST):
            dialling = _Dialling(place.target)
            _dialling.set(dialling)
            try:
                return await self._post(place, request, endpoint, headers)
            except aiohttp.ClientConnectorError:
                raise
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if dialling.dialled:
                    raise
        return await self._post(place, request, endpoint, headers)

    async def _post(self, place: _Place, request: bytes, endpoint: Endpoint, headers: dict[str, str]) -> Answered:
        connection = await self._connected(place)
        try:
            protocol, transport = connection.protocol, connection.transport
            if protocol is None or transport is None or protocol.should_close:
                raise aiohttp.ServerDisconnectedError
            protocol.set_response_params(read_until_eof=True, auto_decompress=False, read_bufsize=ANSWER_LIMIT)
            transport.write(request)
            head, content = await _beginning(protocol)
            answer = await _bounded(content)
        except BaseException:
            connection.close()
            raise
        whole = len(answer) <= ANSWER_LIMIT
        if whole and not transport.get_write_buffer_size():
            connection.release()
        else:  # it goes on, or answered before it had read all
            connection.close()
        kept, result = blacked_out(answer, endpoint, headers)
        asked = head.headers.get("Retry-After")
        wait = None if asked is None else retry_after(asked, datetime.now(UTC))
        named = head.headers.get(KEY_HEADER) or (result.get(KEY_FIELD) if isinstance(result, dict) else None)
        named = named[:_KEY_NAME_LIMIT] if isinstance(named, str) else None
        return Answered(head.code, kept[:ANSWER_LIMIT], result if whole else None, wait, named)

    async def _connected(self, place: _Place) -> Any:
        if self._connector is None:
            raise RuntimeError("a Caller is used inside its context")
        try:
            return await self._connector.connect(place.key, [], self._times)
        except TimeoutError:
            raise aiohttp.ConnectionTimeoutError from None

    def _judged_place(self, url: str) -> _Place | str:
        """Where a URL leads, or a clause that says why it may not be called."""
        target = refusal_of_url(url, self._allowances) or target_of(url)
        if isinstance(target, str):
            return target
        key = aiohttp.ClientRequest("POST", URL(url), loop=asyncio.get_running_loop())
        head = f"POST {key.url.raw_path_qs} HTTP/1.1\r\nHost: {key.headers['Host']}\r\n{_ALWAYS}"
        return _Place(target, key, head)

    def _judged_socket(self, info: Any) -> socket.socket:
        family, kind, protocol, _, address = info
        dialling = _dialling.get()
        dialling.dialled = True
        refusal = refusal_of_address(address[0], address[1], self._allowances, dialling.target.host)
        if refusal is not None:
            raise AddressRefused(refusal)
        dialled = socket.socket(family, kind, protocol)
        dialled.setblocking(False)  # noqa: FBT003 -- the socket API
        return dialled

    def _connect_failure(self, error: aiohttp.ClientConnectorError) -> Failed:
        cause = error.os_error
        if isinstance(cause, AddressRefused):
            return Failed("address", str(cause))
        if isinstance(cause, NameServerFailed):
            return Failed("address", str(cause), ours=cause.ours)
        if isinstance(error, aiohttp.ClientConnectorDNSError):
            return Failed("address", "its name does not resolve")
        if isinstance(error, aiohttp.ClientSSLError | aiohttp.ClientConnectorCertificateError):
            return Failed("tls", f"the TLS connection was refused ({type(error).__name__})")
        if isinstance(cause, asyncio.TimeoutError | TimeoutError):
            return Failed("connect", f"no connection within {self._pace.connect:g} s")
        said = cause.strerror or type(cause).__name__
        return Failed("connect", f"no connection ({said})", ours=cause.errno in _OURS)


def signature_headers(endpoint: Endpoint, webhook_id: str, body: bytes) -> dict[str, str]:
    """The headers that authenticate a call, in the system's style; made at the moment of sending."""
    secrets = [signature.secret for signature in endpoint.signatures]
    timestamp = int(time.time())
    headers = {"webhook-id": webhook_id, "webhook-timestamp": str(timestamp)}
    if endpoint.signature_style == "plain-token":
        headers["X-Switchboard-Signature"] = plain_token(secrets[0])
        if len(secrets) > 1:
            headers["X-Switchboard-Signature-Previous"] = plain_token(secrets[1])
    else:
        headers["webhook-signature"] = " ".join(
            webhook_signature(secret, webhook_id, timestamp, body) for secret in secrets
        )
    return headers


async def _beginning(protocol: Any) -> tuple[RawResponseMessage, aiohttp.StreamReader]:
    """An answer's head and content; 100 Continue and its like may come before it."""
    while True:
        head, content = await protocol.read()
        if head.code == _SWITCHING or not 100 <= head.code < 200:
            return head, content


async def _bounded(content: aiohttp.StreamReader) -> bytes:
    """A little more than is kept at most, however long the receiver goes on."""
    if content.is_eof():  # it came with its head, as most do
        return content.read_nowait(ANSWER_LIMIT + _BEYOND)
    answer = b""
    while not content.at_eof() and len(answer) < ANSWER_LIMIT + _BEYOND:
        answer += await content.read(ANSWER_LIMIT + _BEYOND - len(answer))
    return answer

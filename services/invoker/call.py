"""One signed call: guarded at every dial, bounded in time and size, and leaking nothing that it is told."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import time
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from types import TracebackType
from typing import Any, Self

import aiohttp

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
KEY_HEADER = "webhook-key-id"
KEY_FIELD = "webhook_key_id"
"""Where a receiver may name the signature that it verified, by key id or fingerprint."""


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
        self._session: aiohttp.ClientSession | None = None
        # Pure, and the same for every attempt; what is dialled is judged each time.
        self._target = lru_cache(_URLS_REMEMBERED)(partial(_judged_target, self._allowances))

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            limit=0,
            resolver=JudgingResolver(self._allowances, self._look_up, self._pace.connect),
            socket_factory=self._judged_socket,
            ssl=self._tls,
            use_dns_cache=False,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self._pace.total, sock_connect=self._pace.connect),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=("User-Agent", "Accept-Encoding"),
            headers={"User-Agent": "Switchboard/1", "Accept-Encoding": "identity"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def call(self, endpoint: Endpoint, webhook_id: str, body: bytes) -> Answered | Failed:
        """One POST, with every signature that is valid now. Never raises for what a receiver or a network does."""
        target = self._target(endpoint.api_request_url)
        if isinstance(target, str):
            return Failed("address", target)
        headers = {"Content-Type": "application/json", **signature_headers(endpoint, webhook_id, body)}
        try:
            return await self._post_freshly(target, endpoint, headers, body)
        except AddressRefused as error:
            return Failed("address", str(error))
        except aiohttp.ClientConnectorError as error:
            return self._connect_failure(error)
        except TimeoutError as error:
            if isinstance(error, aiohttp.ConnectionTimeoutError):
                return Failed("connect", f"no connection within {self._pace.connect:g} s")
            return Failed("answer", f"no whole answer within {self._pace.total:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Failed("answer", f"the connection broke ({type(error).__name__})")

    async def _post_freshly(self, target: Target, endpoint: Endpoint, headers: dict[str, str], body: bytes) -> Answered:
        """A connection kept alive may have been closed just before we use it: that is nobody's failure."""
        for _ in range(_STALE_AT_MOST):
            dialling = _Dialling(target)
            _dialling.set(dialling)
            try:
                return await self._post(endpoint, headers, body)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if dialling.dialled:
                    raise
        return await self._post(endpoint, headers, body)

    async def _post(self, endpoint: Endpoint, headers: dict[str, str], body: bytes) -> Answered:
        if self._session is None:
            raise RuntimeError("a Caller is used inside its context")
        async with self._session.post(
            endpoint.api_request_url, data=body, headers=headers, allow_redirects=False
        ) as response:
            answer = await _bounded(response)
            whole = len(answer) <= ANSWER_LIMIT
            if not whole:
                response.close()
            kept, result = blacked_out(answer, endpoint, headers)
            asked = response.headers.get("Retry-After")
            wait = None if asked is None else retry_after(asked, datetime.now(UTC))
            named = response.headers.get(KEY_HEADER) or (result.get(KEY_FIELD) if isinstance(result, dict) else None)
            named = named[:_KEY_NAME_LIMIT] if isinstance(named, str) else None
            return Answered(response.status, kept[:ANSWER_LIMIT], result if whole else None, wait, named)

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


def _judged_target(allowances: Allowances, url: str) -> Target | str:
    """Where a URL leads, or a clause that says why it may not be called."""
    return refusal_of_url(url, allowances) or target_of(url)


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


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    """A little more than is kept at most, however long the receiver goes on."""
    if response.content_length is not None and response.content_length <= ANSWER_LIMIT:
        return await response.read()
    answer = b""
    while len(answer) < ANSWER_LIMIT + _BEYOND:
        chunk = await response.content.read(ANSWER_LIMIT + _BEYOND - len(answer))
        if not chunk:
            break
        answer += chunk
    return answer

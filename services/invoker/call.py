"""One signed call: guarded at every dial, bounded in time and size, and leaking nothing that it is told."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import ssl
import time
from contextvars import ContextVar
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from services.domain.address import (
    Allowances,
    Target,
    refusal_of_address,
    refusal_of_addresses,
    refusal_of_url,
    target_of,
)
from services.domain.signing import plain_token, shown, webhook_signature
from services.invoker.knowledge import Endpoint
from services.invoker.outcomes import Answered, Failed

CONNECT_TIMEOUT_S = 5.0
TOTAL_TIMEOUT_S = 15.0
ANSWER_LIMIT = 64 * 1024
CALLS_AT_ONCE_PER_HOST = 8

_dialling: ContextVar[Target] = ContextVar("dialling")


class AddressRefused(OSError):
    """The guard said no; the text is the clause why."""


class _JudgingResolver(AbstractResolver):
    """Refuses a name whose answers mix public and private: one of them would do for rebinding."""

    def __init__(self, allowances: Allowances) -> None:
        self._allowances = allowances
        self._resolver = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        answers = await self._resolver.resolve(host, port, family)
        refusal = refusal_of_addresses((one["host"] for one in answers), port, self._allowances, host)
        if refusal is not None:
            raise AddressRefused(refusal)
        return answers

    async def close(self) -> None:
        await self._resolver.close()


class Caller:
    """Makes signed calls; an async context manager."""

    def __init__(self, allowances: Allowances, tls: ssl.SSLContext | None = None) -> None:
        self._allowances = allowances
        self._tls = tls or ssl.create_default_context()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            limit=0,
            limit_per_host=CALLS_AT_ONCE_PER_HOST,
            resolver=_JudgingResolver(self._allowances),
            socket_factory=self._judged_socket,
            ssl=self._tls,
            use_dns_cache=False,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=TOTAL_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S),
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
        target = target_of(endpoint.api_request_url)
        refusal = refusal_of_url(endpoint.api_request_url, self._allowances)
        if refusal is not None or isinstance(target, str):
            return Failed("address", refusal or str(target))
        _dialling.set(target)
        headers = {"Content-Type": "application/json", **signature_headers(endpoint, webhook_id, body)}
        try:
            return await self._post(endpoint, headers, body)
        except AddressRefused as error:
            return Failed("address", str(error))
        except aiohttp.ClientConnectorError as error:
            return _connect_failure(error)
        except TimeoutError:
            return Failed("answer", f"no whole answer within {TOTAL_TIMEOUT_S:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Failed("answer", f"the connection broke ({type(error).__name__})")

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
            answer = blacked_out(answer[:ANSWER_LIMIT], endpoint, headers)
            result = _json(answer) if whole else None
            return Answered(response.status, answer, result, _retry_after(response.headers.get("Retry-After")))

    def _judged_socket(self, info: Any) -> socket.socket:
        family, kind, protocol, _, address = info
        target = _dialling.get()
        refusal = refusal_of_address(address[0], address[1], self._allowances, target.host)
        if refusal is not None:
            raise AddressRefused(refusal)
        dialled = socket.socket(family, kind, protocol)
        dialled.setblocking(False)  # noqa: FBT003 -- the socket API
        return dialled


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


def blacked_out(answer: bytes, endpoint: Endpoint, headers: dict[str, str]) -> bytes:
    """The answer without any live token or signature that it echoes."""
    for signature in endpoint.signatures:
        secret = signature.secret
        forms = (
            shown(secret, "standard-webhooks"),
            base64.b64encode(secret).decode(),
            base64.urlsafe_b64encode(secret).decode().rstrip("="),
            secret.hex(),
            plain_token(secret),
        )
        for form in forms:
            answer = answer.replace(form.encode(), b"[blacked out]")
            answer = answer.replace(form.replace("/", "\\/").encode(), b"[blacked out]")
    for value in headers.get("webhook-signature", "").split():
        digest = value.removeprefix("v1,")
        answer = answer.replace(digest.encode(), b"[blacked out]")
        answer = answer.replace(digest.replace("/", "\\/").encode(), b"[blacked out]")
    return answer


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    """At most one byte more than is kept, however long the receiver goes on."""
    answer = b""
    while len(answer) <= ANSWER_LIMIT:
        chunk = await response.content.read(ANSWER_LIMIT + 1 - len(answer))
        if not chunk:
            break
        answer += chunk
    return answer


def _json(answer: bytes) -> Any:
    """The answer as JSON; None where it is none, or holds what JSON does not have."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        return json.loads(answer.decode(), parse_constant=refuse)
    except (ValueError, RecursionError):
        return None


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait, from seconds or an HTTP date; None for anything odd."""
    if value is None:
        return None
    if value.isascii() and value.isdigit() and len(value) < 10:
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, TypeError):
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def _connect_failure(error: aiohttp.ClientConnectorError) -> Failed:
    cause = error.os_error
    if isinstance(cause, AddressRefused):
        return Failed("address", str(cause))
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Failed("address", "its name does not resolve")
    if isinstance(error, aiohttp.ClientSSLError | aiohttp.ClientConnectorCertificateError):
        return Failed("tls", f"the TLS connection was refused ({type(error).__name__})")
    if isinstance(cause, asyncio.TimeoutError | TimeoutError):
        return Failed("connect", f"no connection within {CONNECT_TIMEOUT_S:g} s")
    return Failed("connect", f"no connection ({cause.strerror or type(cause).__name__})")

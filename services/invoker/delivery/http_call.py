"""One signed call: guarded at every dial, bounded in time and size, its answer redacted."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from types import TracebackType
from typing import Any, NamedTuple, Self

import aiohttp
from aiohttp.http import HttpProcessingError, RawResponseMessage
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong

from services.domain.url_policy import TARGET_REFUSED, Allowlist, Refusal, address_refusal, is_public, url_refusal
from services.domain.url_target import Target, request_path, target_of
from services.domain.webhook_signature import plain_token, webhook_signature
from services.infrastructure.fair_queue import FairQueue
from services.infrastructure.library_internals import aiohttp as connections
from services.invoker.delivery.dns import AddressRefused, GuardedResolver, Lookup, NameLookups, NameServerFailed, lookup
from services.invoker.delivery.redaction import redact_answer
from services.invoker.limits import DEFAULT_LIMITS, Limits
from services.invoker.results.retry_policy import Answered, CallResult, Failed, retry_after
from services.invoker.settings_replica.endpoint import Endpoint

ANSWER_LIMIT = 64 * 1024
_OVERLAP = 1024
"""Read beyond the limit, so that a secret that lies across it is redacted before the answer is cut."""
_QUICKLY_SEARCHED = 2048
"""Bytes of an answer that are searched at once; longer ones in one thread, so that they delay no other call: each
further thread would take the interpreter from the event loop once more, and the default ones look up names. Accounts
take turns at it: 64 KB can take it 20 ms, and one account can have hundreds of such answers."""
_MAX_STALE_CONNECTIONS = 10
_MAX_CACHED_URLS = 10_000
_OUR_FAULTS = frozenset(
    (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.ENETDOWN, errno.ENETUNREACH)
)
"""This host has no files, memory, ports or network left: not the receiver's fault."""
_KEY_NAME_LIMIT = 128
_COMMON_HEADERS = (
    "User-Agent: Switchboard/1\r\nAccept: */*\r\nAccept-Encoding: identity\r\nContent-Type: application/json\r\n"
)
KEY_HEADER = "webhook-key-id"
KEY_FIELD = "webhook_key_id"
"""Where a receiver may name the signature that it verified, by key id or fingerprint."""


@dataclass(frozen=True, slots=True)
class _Destination:
    """What a URL leads to: the connector and the key of its connections, and how each request to it starts."""

    target: Target
    connector: aiohttp.TCPConnector
    connection_key: aiohttp.ClientRequest
    request_head: str


@dataclass(slots=True)
class _Dial:
    """The target of the current task's call, and the address that it dialled last; None on a connection kept alive."""

    target: Target
    address: str | None = None


class AnswerHead(NamedTuple):
    """Of an answer that did not come over HTTP: its status, and headers."""

    code: int
    headers: Mapping[str, str]


_dial: ContextVar[_Dial] = ContextVar("dial")


class WebhookClient:
    """Makes signed calls; an async context manager.

    Each account that the operator allows targets of its own has connections of its own: a connection that is kept alive
    leads to an address that was judged for every account that may use it.
    """

    def __init__(
        self,
        allowlist: Allowlist,
        limits: Limits = DEFAULT_LIMITS,
        *,
        tls: ssl.SSLContext | None = None,
        lookup: Lookup = lookup,
    ) -> None:
        self._allowlist, self._limits, self._lookup = allowlist, limits, lookup
        self._tls = tls or ssl.create_default_context()
        self._timeouts = aiohttp.ClientTimeout(total=None, sock_connect=limits.connect_timeout)
        self._lookups: NameLookups | None = None
        self._searching_thread = ThreadPoolExecutor(1, "search-of-answers")
        self._searches = FairQueue(1, 1, limits.max_calls)
        self._connectors: dict[str | None, aiohttp.TCPConnector] = {}
        """By account; None for all accounts without targets of their own."""
        # The same for every attempt; the address that is dialled is checked each time.
        self._destination = lru_cache(_MAX_CACHED_URLS)(self._checked_destination)

    async def __aenter__(self) -> Self:
        self._lookups = lookups = NameLookups(self._lookup, self._limits.connect_timeout)
        for account in (None, *self._allowlist.accounts):
            self._connectors[account] = aiohttp.TCPConnector(
                limit=0,
                resolver=GuardedResolver(lookups, self._allowlist, account),
                socket_factory=partial(self._guarded_socket, account),
                ssl=self._tls,
                use_dns_cache=False,
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connector in self._connectors.values():
            await connector.close()
        if self._lookups is not None:
            self._lookups.close()
        self._searching_thread.shutdown(wait=False, cancel_futures=True)

    async def post(
        self, endpoint: Endpoint, webhook_id: str, body: bytes, traceparent: str | None = None
    ) -> CallResult:
        """One POST with every signature that is valid now. Never raises for what a receiver or a network does."""
        account = endpoint.account if endpoint.account in self._connectors else None
        destination = self._destination(endpoint.api_request_url, account)
        if isinstance(destination, Refusal):
            return Failed("address", destination.clause, detail=destination.detail)
        headers = signature_headers(endpoint, webhook_id, body)
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        if traceparent is not None:
            lines += f"traceparent: {traceparent}\r\n"
        request = f"{destination.request_head}{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body
        try:
            async with asyncio.timeout(self._limits.call_timeout):
                head, answer = await self._exchange_past_stale_connections(destination, request)
            return await self.read_answer(head, answer, endpoint, headers)
        except AddressRefused as error:
            return Failed("address", TARGET_REFUSED, detail=str(error))
        except aiohttp.ClientConnectorError as error:
            return self._connect_failure(error)
        except TimeoutError as error:
            if isinstance(error, aiohttp.ConnectionTimeoutError):
                return self._no_connection()
            return Failed("answer", f"no whole answer within {self._limits.call_timeout:g} s")
        except (aiohttp.ClientError, HttpProcessingError, OSError, ValueError) as error:
            return Failed("answer", _broken(error))

    async def read_answer(
        self, head: AnswerHead | RawResponseMessage, answer: bytes, endpoint: Endpoint, sent: Mapping[str, str]
    ) -> Answered:
        """What an answer says, without the endpoint's secrets and the signatures that were ``sent`` in headers."""
        if len(answer) <= _QUICKLY_SEARCHED:
            return _answered(head, answer, endpoint, sent)
        search = partial(_answered, head, answer, endpoint, sent)
        async with self._searches.turn(endpoint.account):
            return await asyncio.get_running_loop().run_in_executor(self._searching_thread, search)

    async def _exchange_past_stale_connections(
        self, destination: _Destination, request: bytes
    ) -> tuple[RawResponseMessage, bytes]:
        """A receiver may close a connection kept alive just before it is used: the request is then sent on another."""
        for _ in range(_MAX_STALE_CONNECTIONS):
            dial = _Dial(destination.target)
            _dial.set(dial)
            try:
                return await self._exchange(destination, request)
            except aiohttp.ClientConnectorError:
                raise
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if dial.address is not None:
                    raise
        return await self._exchange(destination, request)

    async def _exchange(self, destination: _Destination, request: bytes) -> tuple[RawResponseMessage, bytes]:
        """Sends a request; returns the answer's head, and its content up to a little more than the limit."""
        connection = await connections.connect(destination.connector, destination.connection_key, self._timeouts)
        try:
            connections.send(connection, request, ANSWER_LIMIT)
            head, content = await connections.read_head(connection)
            answer = await _read_bounded(content)
        except BaseException:
            connection.close()
            raise
        if len(answer) <= ANSWER_LIMIT and connections.is_request_sent(connection):
            connection.release()
        else:  # the answer goes on, or came before the request was read
            connection.close()
        return head, answer

    def _checked_destination(self, url: str, account: str | None) -> _Destination | Refusal:
        """What a URL leads to, or why the account may not call it."""
        refusal, target = url_refusal(url, self._allowlist, account), target_of(url)
        if refusal is not None:
            return refusal
        if isinstance(target, str):
            return Refusal(target, target)
        key = connections.connection_key(url)
        head = f"POST {request_path(url)} HTTP/1.1\r\nHost: {key.headers['Host']}\r\n{_COMMON_HEADERS}"
        return _Destination(target, self._connectors[account], key, head)

    def _guarded_socket(self, account: str | None, info: Any) -> socket.socket:
        family, kind, protocol, _, address = info
        dial = _dial.get()
        dial.address = address[0]
        refusal = address_refusal(address[0], address[1], self._allowlist, account=account, host=dial.target.host)
        if refusal is not None:
            raise AddressRefused(refusal.detail)
        guarded = socket.socket(family, kind, protocol)
        guarded.setblocking(False)  # noqa: FBT003 -- the socket API
        return guarded

    def _connect_failure(self, error: aiohttp.ClientConnectorError) -> Failed:
        cause = error.os_error
        if isinstance(cause, AddressRefused):
            return Failed("address", TARGET_REFUSED, detail=str(cause))
        if isinstance(cause, NameServerFailed):
            return Failed("address", str(cause), our_fault=cause.our_fault)
        if isinstance(error, aiohttp.ClientConnectorDNSError):
            return Failed("address", TARGET_REFUSED, detail="its name does not resolve")
        if isinstance(error, aiohttp.ClientSSLError | aiohttp.ClientConnectorCertificateError):
            return Failed("tls", f"the TLS connection was refused ({type(error).__name__})")
        if isinstance(cause, asyncio.TimeoutError | TimeoutError):
            return self._no_connection()
        return self._no_connection(cause)

    def _no_connection(self, cause: OSError | None = None) -> Failed:
        """``cause`` is None for a time-out. An account does not learn it of an address that is not public, nor of a
        fault of ours."""
        reason = f"within {self._limits.connect_timeout:g} s"
        if cause is not None:
            # Not its own text, in which asyncio writes the address.
            reason = f"({os.strerror(cause.errno) if cause.errno else type(cause).__name__})"
        our_fault = cause is not None and cause.errno in _OUR_FAULTS
        address = _dial.get().address
        if our_fault or (address is not None and not is_public(address)):
            return Failed("connect", "no connection", our_fault, detail=f"no connection to {address} {reason}")
        return Failed("connect", f"no connection {reason}")


def signature_headers(endpoint: Endpoint, webhook_id: str, body: bytes) -> dict[str, str]:
    """The headers that authenticate a call, in the system's style, with the time of now."""
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


def _broken(error: Exception) -> str:
    cause = error.__cause__ or error  # aiohttp hands a parser's error on as the cause of another one
    if isinstance(cause, LineTooLong):
        return f"its head has a line of more than {connections.HEADER_LIMIT // 1024} KiB"
    if isinstance(cause, BadHttpMessage) and cause.message == "Too many headers received":
        return f"its head has more than {connections.HEADERS_LIMIT:,} headers"
    return f"the connection broke ({type(error).__name__})"


async def _read_bounded(content: aiohttp.StreamReader) -> bytes:
    """The content, up to a little more than the limit, however much the receiver sends."""
    if content.is_eof():  # most answers arrive together with their head
        return content.read_nowait(ANSWER_LIMIT + _OVERLAP)
    answer = b""
    while not content.at_eof() and len(answer) < ANSWER_LIMIT + _OVERLAP:
        answer += await content.read(ANSWER_LIMIT + _OVERLAP - len(answer))
    return answer


def _answered(
    head: AnswerHead | RawResponseMessage, answer: bytes, endpoint: Endpoint, sent: Mapping[str, str]
) -> Answered:
    redacted, result = redact_answer(answer, endpoint, sent)
    retry_header = head.headers.get("Retry-After")
    retry_after_s = None if retry_header is None else retry_after(retry_header, datetime.now(UTC))
    key = head.headers.get(KEY_HEADER) or (result.get(KEY_FIELD) if isinstance(result, dict) else None)
    return Answered(
        head.code,
        redacted[:ANSWER_LIMIT],
        result if len(answer) <= ANSWER_LIMIT else None,
        retry_after_s,
        key[:_KEY_NAME_LIMIT] if isinstance(key, str) else None,
    )

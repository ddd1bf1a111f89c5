"""aiohttp's client connections without its session. Read in aiohttp 3.14.5.

aiohttp dials, keeps connections alive and parses answers well. Its session (cookies, redirects, proxies, traces, merged
headers) costs more than all of that, and a webhook needs none of it: a request is a head and a body, written at once.
These are no public interfaces: the connector's ``connect``, the request object that it takes as the key of a
connection, and the protocol of a connection.
"""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
from aiohttp.connector import Connection
from aiohttp.http import RawResponseMessage
from yarl import URL

HEADER_LIMIT = 64 * 1024
"""Bytes of one header, or of the first line, of an answer."""
HEADERS_LIMIT = 1_000
_SWITCHING_PROTOCOLS = 101
"""The one status below 200 that no further head follows."""


def connection_key(url: str) -> aiohttp.ClientRequest:
    """What the connector dials and keeps connections by; its ``headers`` have the Host header. Needs a running loop."""
    return aiohttp.ClientRequest("POST", URL(url), loop=asyncio.get_running_loop())


async def connect(
    connector: aiohttp.TCPConnector, key: aiohttp.ClientRequest, timeouts: aiohttp.ClientTimeout
) -> Connection:
    """A connection, kept alive or new. Raises `aiohttp.ConnectionTimeoutError` where dialling takes too long."""
    try:
        return await connector.connect(key, [], timeouts)
    except TimeoutError:
        raise aiohttp.ConnectionTimeoutError from None


def send(connection: Connection, request: bytes, buffer_bytes: int) -> None:
    """Writes a whole request. Raises `aiohttp.ServerDisconnectedError` where the connection is closed."""
    protocol, transport = connection.protocol, connection.transport
    if protocol is None or transport is None or protocol.should_close:
        raise aiohttp.ServerDisconnectedError
    protocol.set_response_params(
        read_until_eof=True,
        auto_decompress=False,
        read_bufsize=buffer_bytes,
        max_line_size=HEADER_LIMIT,
        max_field_size=HEADER_LIMIT,
        max_headers=HEADERS_LIMIT,
    )
    transport.write(request)


async def read_head(connection: Connection) -> tuple[RawResponseMessage, aiohttp.StreamReader]:
    """The head and the content of the answer; informational answers (100 Continue) before it are skipped."""
    protocol: Any = connection.protocol
    while True:
        head, content = await protocol.read()
        if head.code == _SWITCHING_PROTOCOLS or not 100 <= head.code < 200:
            return head, content


def is_request_sent(connection: Connection) -> bool:
    """Whether the whole request has left our buffer; a receiver may answer before."""
    transport = connection.transport
    return transport is not None and transport.get_write_buffer_size() == 0

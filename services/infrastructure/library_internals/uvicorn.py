"""The connection behind an ASGI request, and its limits. Read in uvicorn 0.54.0, its h11 implementation.

ASGI has no way to abort a connection: to end the response waits until the client has read what is buffered, which a
stalled client never does. In uvicorn ``receive`` is a method of the request's cycle, which has the transport.

A connection has a ``cycle`` for each request, which goes on until ``response_complete``; the keep-alive timer runs only
between requests. uvicorn's own ``limit_concurrency`` answers once a head is whole, so never to half of one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from starlette.types import Receive
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle


def abort_connection(receive: Receive) -> None:
    """Closes the request's connection at once, and drops what is buffered for it."""
    transport: asyncio.Transport = receive.__self__.transport  # type: ignore[attr-defined]
    transport.abort()


HEADER_TIMEOUT_S = 10.0
"""The head of a request must be whole this long after its connection, or its first byte on a connection kept alive."""

WRITE_TIMEOUT_S = 60.0
"""A client that reads nothing of what is buffered for it is cut off after this long."""


READ_BYTES = 16 * 1024
"""How much of a request is taken from the socket at once; uvloop would take 256 KiB."""


class SmallReads(asyncio.BufferedProtocol):
    """Gives a connection what arrives in pieces of at most `READ_BYTES`, one of which may be more than it asked for."""

    _buffer = bytearray(READ_BYTES)
    """Of all connections: what is in it is copied before the next one reads."""

    def __init__(self, connection: H11Protocol) -> None:
        self._connection = connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._connection.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 -- asyncio's signature
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._connection.data_received(bytes(self._buffer[:nbytes]))


class BoundedConnection(H11Protocol):
    """A connection with time limits for both directions, one of at most ``most``.

    Nothing of a body is taken from the socket that nobody asked for, and nothing is sent while there is something that
    the client has not taken. uvicorn goes on in both directions until 64 KiB are waiting.

    Subclasses set the class variables; ``refusals`` are whole HTTP responses, by status, for what no route answers.
    """

    most: ClassVar[int]
    refusals: ClassVar[Mapping[int, bytes]]
    _header_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=1, low=0)
        if len(self.connections) > self.most:
            self._refuse(503)
        else:
            self._header_timer = self.loop.call_later(HEADER_TIMEOUT_S, self._refuse, 408)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_header_timer()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._is_in_request() and self.cycle.body:
            self.flow.pause_reading()  # until it is asked for
        self._watch_header()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch_header()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 -- uvicorn's signature
        self._refuse(400)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_timer = self._write_timer or self.loop.call_later(WRITE_TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _watch_header(self) -> None:
        """Runs the timer while a request has begun that no route has got yet, or one goes on after its response."""
        if self._is_in_request() or self.timeout_keep_alive_task is not None:
            self._stop_header_timer()
        elif self._header_timer is None and not self.transport.is_closing():
            self._header_timer = self.loop.call_later(HEADER_TIMEOUT_S, self._refuse, 408)

    def _is_in_request(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _stop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _refuse(self, status: int) -> None:
        if not self._is_in_request():
            self.transport.write(self.refusals[status])
        self._stop_header_timer()
        self.transport.close()


def in_small_reads(connection: type[BoundedConnection]) -> Callable[..., asyncio.BaseProtocol]:
    """Returns what makes a ``connection`` for a server that listens without TLS."""

    class Connection(SmallReads):
        def __init__(self, **of_uvicorn: Any) -> None:
            super().__init__(connection(**of_uvicorn))

    return Connection

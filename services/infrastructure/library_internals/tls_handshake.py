"""A TLS handshake that counts among uvicorn's connections, and ends. Read in uvicorn 0.54.0, CPython 3.11, uvloop 0.23.

With a server that has a TLS context, a protocol learns of its connection only once the handshake is done, so a client
that begins handshakes and leaves them there would hold any number of sockets. Here uvicorn listens without TLS, and a
connection begins with the handshake. uvicorn keeps its connections as a set of objects to ``shutdown()``.

``start_tls`` would lose what uvloop reads before a task can call it. So the accepted socket is handed over instead.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from typing import Any

from services.infrastructure.library_internals.uvicorn import BoundedConnection, SmallReads

HANDSHAKE_TIMEOUT_S = 10.0
"""The handshake must be done this long after its connection."""


def over_tls(connection: type[BoundedConnection], context: ssl.SSLContext) -> type[asyncio.Protocol]:
    """Returns the class of connections that begin with a handshake, and then are ``connection``."""

    class Handshake(_Handshake):
        def __init__(self, **of_uvicorn: Any) -> None:
            super().__init__(connection(**of_uvicorn), context)

    return Handshake


class _Handshake(asyncio.Protocol):
    """A connection until it speaks TLS, then replaced by ``successor``.

    Beyond ``successor.most`` connections it is closed without an answer, which would need the handshake first.
    """

    def __init__(self, successor: BoundedConnection, context: ssl.SSLContext) -> None:
        self._successor, self._context = successor, context
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if len(self._successor.connections) < self._successor.most:
            descriptor = os.dup(transport.get_extra_info("socket").fileno())
            self._successor.connections.add(self)  # type: ignore[arg-type]  # of its own protocols
            self._task = self._successor.loop.create_task(self._shake_hands(socket.socket(fileno=descriptor)))
        transport.abort()  # which leaves the duplicate open

    def shutdown(self) -> None:
        """Closes the connection, as uvicorn does with each when it stops."""
        if self._task is not None:
            self._task.cancel()

    async def _shake_hands(self, accepted: socket.socket) -> None:
        try:
            await self._successor.loop.connect_accepted_socket(
                lambda: SmallReads(self._successor),
                accepted,
                ssl=self._context,
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
            )
        except OSError:  # whatever was sent, it was no handshake in time; ssl.SSLError is one of these
            accepted.close()
        finally:
            self._successor.connections.discard(self)

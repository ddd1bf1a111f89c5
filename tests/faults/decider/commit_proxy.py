"""A small TCP proxy between a decider and its broker that interferes with the request to end a transaction (EndTxn).

``late``: the request is held back and its connection closed; it reaches the broker only after the next transaction has
written something. ``doubled``: it reaches the broker twice, the second time after the next transaction has written.
``unanswered``: it reaches the broker, but the response is dropped. ``witnessed``: only calls `on_trigger` as the
request is sent to the broker.
"""

from __future__ import annotations

import asyncio
import re
import struct
from collections.abc import Callable
from typing import Literal

CommitFault = Literal["late", "doubled", "unanswered", "witnessed"]

_PRODUCE, _END_TXN = 0, 26
_HOST = b"127.0.0.1"
_TRANSACTIONAL_ID = re.compile(rb"switchboard\.decider-\d+")
_KILL_WINDOW_S = 0.2


class CommitProxy:
    """Listens on ``port``. Injects the fault once, at the ``count``-th commit, and then sets ``triggered``.

    Delivers the held request once the broker has answered ``writes`` more Produce requests. With ``aborts`` it counts
    and affects requests to abort.
    """

    def __init__(
        self,
        broker_port: int,
        fault: CommitFault,
        count: int,
        writes: int = 0,
        *,
        aborts: bool = False,
        on_trigger: Callable[[], object] = lambda: None,
    ) -> None:
        self._broker_port, self._fault = broker_port, fault
        self.count, self._writes_left = count, writes
        self._result = b"\0" if aborts else b"\1"
        self._on_trigger = on_trigger
        self.commits = 0
        """Requests to commit, or to abort, seen so far."""
        self._held: bytes | None = None
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self.port = 0
        self.triggered = asyncio.Event()
        self.delivered = asyncio.Event()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        await asyncio.sleep(0.1)  # connections that were just accepted have registered by then
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._connections.add(task)
        try:
            await _Connection(self, reader, writer).run()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # one side has closed, or the proxy stops
        finally:
            writer.close()
            if task is not None:
                self._connections.discard(task)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._broker_port)

    def with_own_port(self, response: bytes) -> bytes:
        """The response with the proxy's port in place of the broker's, so that later connections use the proxy too."""
        return response.replace(_HOST + struct.pack(">i", self._broker_port), _HOST + struct.pack(">i", self.port))

    def is_target(self, request: bytes) -> bool:
        """Whether this request is the commit to interfere with. Counts it."""
        if _api(request) != _END_TXN or request[-1:] != self._result:
            return False
        self.commits += 1
        return self.commits == self.count

    def inject(self, request: bytes) -> CommitFault:
        self.triggered.set()
        if self._fault in ("late", "doubled"):
            self._held = request
        self._on_trigger()
        return self._fault

    async def after_write(self, transaction: bytes | None) -> None:
        """Delivers the held request on a connection of its own, after enough writes under its transactional id.

        Then waits before the last write is answered, so that a kill falls between two writes.
        """
        if self._held is None or transaction != _transactional_id(self._held):
            return
        self._writes_left -= 1
        if self._writes_left > 0:
            return
        held, self._held = self._held, None
        reader, writer = await self.connect()
        writer.write(held)
        await _frame(reader)
        writer.close()
        self.delivered.set()
        await asyncio.sleep(_KILL_WINDOW_S)


class _Connection:
    def __init__(self, proxy: CommitProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy, self._reader, self._writer = proxy, reader, writer
        self._writes: dict[bytes, bytes | None] = {}
        """Transactional ids of Produce requests without a response yet, by correlation id."""
        self._unanswered: bytes | None = None
        """The correlation id of the request whose response is dropped."""

    async def run(self) -> None:
        reader, writer = await self._proxy.connect()
        directions = [asyncio.create_task(self._requests(writer)), asyncio.create_task(self._responses(reader))]
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for direction in directions:
                direction.cancel()
            await asyncio.gather(*directions, return_exceptions=True)
            writer.close()

    async def _requests(self, broker: asyncio.StreamWriter) -> None:
        while True:
            request = await _frame(self._reader)
            if self._proxy.is_target(request):
                fault = self._proxy.inject(request)
                if fault == "late":
                    return
                if fault == "unanswered":
                    self._unanswered = _correlation(request)
            if _api(request) == _PRODUCE:
                self._writes[_correlation(request)] = _transactional_id(request)
            broker.write(request)
            await broker.drain()

    async def _responses(self, broker: asyncio.StreamReader) -> None:
        while True:
            response = await _frame(broker)
            correlation = response[4:8]
            if correlation == self._unanswered:
                return
            if correlation in self._writes:
                await self._proxy.after_write(self._writes.pop(correlation))
            self._writer.write(self._proxy.with_own_port(response))
            await self._writer.drain()


async def _frame(reader: asyncio.StreamReader) -> bytes:
    """One request or response, with its size in front."""
    size = await reader.readexactly(4)
    return size + await reader.readexactly(struct.unpack(">i", size)[0])


def _api(request: bytes) -> int:
    return int(struct.unpack(">h", request[4:6])[0])


def _correlation(request: bytes) -> bytes:
    return request[8:12]


def _transactional_id(request: bytes) -> bytes | None:
    match = _TRANSACTIONAL_ID.search(request)
    return None if match is None else match.group()

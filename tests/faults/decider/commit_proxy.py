"""A small TCP proxy between a decider and its brokers that interferes with the request to end a transaction (EndTxn).

``late``: the request is held back and its connection closed; it reaches the broker only after the next transaction has
written something. ``doubled``: it reaches the broker twice, the second time after the next transaction has written.
``unanswered``: it reaches the broker, but the response is dropped. ``witnessed``: only calls `on_trigger` as the
request is sent to the broker.
"""

from __future__ import annotations

import asyncio
import re
import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

CommitFault = Literal["late", "doubled", "unanswered", "witnessed"]

_PRODUCE, _END_TXN = 0, 26
_FIRST_WITH_TAGS = 3
"""Of EndTxn's versions."""
_HOST = b"127.0.0.1"
_TRANSACTIONAL_ID = re.compile(rb"switchboard\.decider-\d+")
_KILL_WINDOW_S = 0.2


class CommitProxy:
    """Listens on a port for each broker's. Injects the fault once, at the ``count``-th commit, and sets ``triggered``.

    Delivers the held request once the broker has answered ``writes`` more Produce requests. With ``aborts`` it counts
    and affects requests to abort.
    """

    def __init__(
        self,
        broker_ports: Sequence[int],
        fault: CommitFault,
        count: int,
        writes: int = 0,
        *,
        aborts: bool = False,
        on_trigger: Callable[[], object] = lambda: None,
    ) -> None:
        self._ports, self._fault = dict.fromkeys(broker_ports, 0), fault
        """Our own port for each broker's."""
        self.count, self._writes_left = count, writes
        self._result = b"\0" if aborts else b"\1"
        self._on_trigger = on_trigger
        self.commits = 0
        """Requests to commit, or to abort, seen so far."""
        self._held: tuple[bytes, int] | None = None
        """The request, and the port of the broker that it is for."""
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()
        self.triggered = asyncio.Event()
        self.delivered = asyncio.Event()

    async def start(self) -> None:
        for broker_port in self._ports:
            server = await asyncio.start_server(partial(self._accept, broker_port), "127.0.0.1", 0)
            self._ports[broker_port] = server.sockets[0].getsockname()[1]
            self._servers.append(server)

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(f"127.0.0.1:{port}" for port in self._ports.values())

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
        await asyncio.sleep(0.1)  # connections that were just accepted have registered by then
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, broker_port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._connections.add(task)
        try:
            await _Connection(self, broker_port, reader, writer).run()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # one side has closed, or the proxy stops
        finally:
            writer.close()
            if task is not None:
                self._connections.discard(task)

    def with_own_port(self, response: bytes) -> bytes:
        """The response with the proxy's ports in place of the brokers', so that later connections use the proxy too."""
        for brokers, own in self._ports.items():
            response = response.replace(_HOST + struct.pack(">i", brokers), _HOST + struct.pack(">i", own))
        return response

    def is_target(self, request: bytes) -> bool:
        """Whether this request is the commit to interfere with. Counts it."""
        if _api(request) != _END_TXN or _result(request) != self._result:
            return False
        self.commits += 1
        return self.commits == self.count

    def inject(self, request: bytes, broker_port: int) -> CommitFault:
        self.triggered.set()
        if self._fault in ("late", "doubled"):
            self._held = request, broker_port
        self._on_trigger()
        return self._fault

    async def after_write(self, transaction: bytes | None) -> None:
        """Delivers the held request on a connection of its own, after enough writes under its transactional id.

        Then waits before the last write is answered, so that a kill falls between two writes.
        """
        if self._held is None or transaction != _transactional_id(self._held[0]):
            return
        self._writes_left -= 1
        if self._writes_left > 0:
            return
        (held, broker_port), self._held = self._held, None
        reader, writer = await asyncio.open_connection("127.0.0.1", broker_port)
        writer.write(held)
        await _frame(reader)
        writer.close()
        self.delivered.set()
        await asyncio.sleep(_KILL_WINDOW_S)


class _Connection:
    def __init__(
        self, proxy: CommitProxy, broker_port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._broker_port = broker_port
        self._proxy, self._reader, self._writer = proxy, reader, writer
        self._writes: dict[bytes, bytes | None] = {}
        """Transactional ids of Produce requests without a response yet, by correlation id."""
        self._unanswered: bytes | None = None
        """The correlation id of the request whose response is dropped."""

    async def run(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._broker_port)
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
                fault = self._proxy.inject(request, self._broker_port)
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


def _result(end: bytes) -> bytes:
    """Whether the request commits or aborts: its last field, behind which newer versions have tags."""
    version = int(struct.unpack(">h", end[6:8])[0])
    return end[-2:-1] if version >= _FIRST_WITH_TAGS else end[-1:]


def _correlation(request: bytes) -> bytes:
    return request[8:12]


def _transactional_id(request: bytes) -> bytes | None:
    match = _TRANSACTIONAL_ID.search(request)
    return None if match is None else match.group()

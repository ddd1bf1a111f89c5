"""A small TCP proxy between a decider and its broker that strikes at the request to end a transaction (EndTxn).

``late``: the request is held back and its connection lost; it reaches the broker only after the next transaction has
written something. ``doubled``: it reaches the broker twice, the second time after the next transaction has written.
``unanswered``: it reaches the broker, but the answer does not come back. ``witnessed``: nothing but `on_strike`, which
is called as the request goes out to the broker.
"""

from __future__ import annotations

import asyncio
import re
import struct
from collections.abc import Callable
from typing import Literal

Strike = Literal["late", "doubled", "unanswered", "witnessed"]

_PRODUCE, _END_TXN = 0, 26
_HOST = b"127.0.0.1"
_TRANSACTIONAL_ID = re.compile(rb"switchboard\.decider-\d+")
_MOMENT_S = 0.2


class CommitProxy:
    """Listens on ``port``; strikes once, at the ``count``-th commit that it sees, and says so in ``struck``.

    The held request is delivered when ``writes`` more requests to write have been answered by the broker. With
    ``aborts`` it is requests to abort that are counted and struck at.
    """

    def __init__(
        self,
        broker_port: int,
        strike: Strike,
        count: int,
        writes: int = 0,
        *,
        aborts: bool = False,
        on_strike: Callable[[], object] = lambda: None,
    ) -> None:
        self._broker_port, self._strike = broker_port, strike
        self.count, self._writes_left = count, writes
        self._result = b"\0" if aborts else b"\1"
        self._on_strike = on_strike
        self.commits = 0
        """Requests to commit, or to abort, that came by."""
        self._held: bytes | None = None
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self.port = 0
        self.struck = asyncio.Event()
        self.delivered = asyncio.Event()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        await asyncio.sleep(0.1)  # whoever has just connected is known by then
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
            pass  # either side went, or we are stopped: this connection is over
        finally:
            writer.close()
            if task is not None:
                self._connections.discard(task)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._broker_port)

    def translated(self, answer: bytes) -> bytes:
        """The answer with our port where it names the broker's: every further connection comes to us too."""
        return answer.replace(_HOST + struct.pack(">i", self._broker_port), _HOST + struct.pack(">i", self.port))

    def strikes(self, request: bytes) -> bool:
        """Whether this request is the commit to strike at."""
        if _api(request) != _END_TXN or request[-1:] != self._result:
            return False
        self.commits += 1
        return self.commits == self.count

    def hold(self, request: bytes) -> Strike:
        self.struck.set()
        if self._strike in ("late", "doubled"):
            self._held = request
        self._on_strike()
        return self._strike

    async def after_write(self, transaction: bytes | None) -> None:
        """Delivers the held request once enough was written after it in its name, on a connection of its own.

        Then waits a moment: what was written last is not answered yet, so a kill falls between two writes.
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
        await asyncio.sleep(_MOMENT_S)


class _Connection:
    def __init__(self, proxy: CommitProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy, self._reader, self._writer = proxy, reader, writer
        self._writes: dict[bytes, bytes | None] = {}
        """The transactional ids of requests to write that are not answered yet, by correlation id."""
        self._swallowed: bytes | None = None
        """The correlation id of the request whose answer is lost."""

    async def run(self) -> None:
        reader, writer = await self._proxy.connect()
        ways = [asyncio.create_task(self._requests(writer)), asyncio.create_task(self._answers(reader))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            writer.close()

    async def _requests(self, broker: asyncio.StreamWriter) -> None:
        while True:
            request = await _frame(self._reader)
            if self._proxy.strikes(request):
                strike = self._proxy.hold(request)
                if strike == "late":
                    return
                if strike == "unanswered":
                    self._swallowed = _correlation(request)
            if _api(request) == _PRODUCE:
                self._writes[_correlation(request)] = _transactional_id(request)
            broker.write(request)
            await broker.drain()

    async def _answers(self, broker: asyncio.StreamReader) -> None:
        while True:
            answer = await _frame(broker)
            correlation = answer[4:8]
            if correlation == self._swallowed:
                return
            if correlation in self._writes:
                await self._proxy.after_write(self._writes.pop(correlation))
            self._writer.write(self._proxy.translated(answer))
            await self._writer.drain()


async def _frame(reader: asyncio.StreamReader) -> bytes:
    """One request or answer, its size in front."""
    size = await reader.readexactly(4)
    return size + await reader.readexactly(struct.unpack(">i", size)[0])


def _api(request: bytes) -> int:
    return int(struct.unpack(">h", request[4:6])[0])


def _correlation(request: bytes) -> bytes:
    return request[8:12]


def _transactional_id(request: bytes) -> bytes | None:
    found = _TRANSACTIONAL_ID.search(request)
    return None if found is None else found.group()

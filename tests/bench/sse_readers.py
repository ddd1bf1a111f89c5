"""Many readers of server-sent events in one process, as cheap as they can be: they count events, and note when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

_FIRST = b": from here on"
_DATA = b"\ndata: "


class Reader(asyncio.Protocol):
    """``told`` is called with how many events came at once."""

    def __init__(self, request: bytes, told: Callable[[int], None]) -> None:
        self._request, self._told = request, told
        self._tail = b""
        self.started = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        text = self._tail + data
        if not self.started.is_set():
            if not text.startswith(b"HTTP/1.1 200 "):
                raise RuntimeError(text.decode(errors="replace"))
            if _FIRST in text:
                self.started.set()
            self._tail = text
            return
        if count := text.count(_DATA):
            self._told(count)
        self._tail = text[-len(_DATA) + 1 :]


class Audience:
    """Readers that follow the same. Events count from the moment of `expect`."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.expect(1)

    def expect(self, events: int) -> None:
        """As many to each reader."""
        self._left, self.all_there = events * self.size, asyncio.Event()
        self._sent: list[float] = []
        self._seen: dict[int, int] = {}
        self.delays: list[float] = []

    def sending(self) -> None:
        """An event goes out now; it comes to each reader as the next one."""
        self._sent.append(time.perf_counter())

    def told(self, reader: int, count: int) -> None:
        if self._sent:
            now, seen = time.perf_counter(), self._seen.get(reader, 0)
            self.delays += [now - sent for sent in self._sent[seen : seen + count]]
            self._seen[reader] = seen + count
        self._left -= count
        if self._left <= 0:
            self.all_there.set()


@asynccontextmanager
async def audience(port: int, size: int, path: str, credential: str) -> AsyncIterator[Audience]:
    """So many readers, all connected and told that they are; each sends the ``credential``, a header."""
    made = Audience(size)
    request = (f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{credential}\r\nAccept: text/event-stream\r\n\r\n").encode()
    readers: list[Reader] = []
    try:
        for number in range(size):
            reader = Reader(request, lambda count, number=number: made.told(number, count))  # type: ignore[misc]
            await asyncio.get_running_loop().create_connection(lambda reader=reader: reader, "127.0.0.1", port)  # type: ignore[misc]
            readers.append(reader)
        async with asyncio.timeout(60):
            for reader in readers:
                await reader.started.wait()
        yield made
    finally:
        for reader in readers:
            reader.transport.abort()

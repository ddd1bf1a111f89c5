"""Proxies in front of a cluster's brokers: a broker can be cut off from clients and from the other brokers.

A connection belongs to the broker that it leads to, and to the broker whose process opened it. While either is cut off,
nothing passes. TCP keeps what was sent: when the cut heals, late requests arrive as they would in a real network.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from functools import partial
from typing import Self

import psutil

_POLL_S = 0.02
_CHUNK = 256 * 1024


class Links:
    """A context manager. Runs in a thread of its own; ``pid_of`` finds the process of a broker by its number."""

    def __init__(self, pid_of: Callable[[int], int | None]) -> None:
        self._pid_of = pid_of
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._cut: int | None = None
        self._ports_of_cut: frozenset[int] = frozenset()
        self._servers: list[asyncio.Server] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def to(self, broker: int, port: int) -> int:
        """A new port that leads to the broker's."""

        async def listen() -> int:
            server = await asyncio.start_server(partial(self._accept, broker, port), "127.0.0.1", 0)
            self._servers.append(server)
            return int(server.sockets[0].getsockname()[1])

        return asyncio.run_coroutine_threadsafe(listen(), self._loop).result()

    def cut_off(self, broker: int) -> None:
        self._cut = broker
        self._find_ports()

    def heal(self) -> None:
        self._cut, self._ports_of_cut = None, frozenset()

    def _find_ports(self) -> None:
        """The local ports of the connections that the broker that is cut off has opened."""
        pid = None if self._cut is None else self._pid_of(self._cut)
        if pid is not None:
            with contextlib.suppress(psutil.Error):
                connections = psutil.Process(pid).net_connections("tcp")
                self._ports_of_cut = frozenset(one.laddr.port for one in connections)

    async def _accept(self, broker: int, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")[1]
        if self._cut is not None:
            self._find_ports()
        opposite: asyncio.StreamWriter | None = None
        try:
            await self._passable(broker, peer)
            back, opposite = await asyncio.open_connection("127.0.0.1", port)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._forward(broker, peer, reader, opposite))
                both.create_task(self._forward(broker, peer, back, writer))
        except (OSError, asyncio.CancelledError, ExceptionGroup):
            pass  # one side has closed, or the proxies stop
        finally:
            for one in (writer, opposite):
                if one is not None:
                    one.transport.abort()

    async def _passable(self, broker: int, peer: int) -> None:
        while self._cut is not None and (self._cut == broker or peer in self._ports_of_cut):
            await asyncio.sleep(_POLL_S)

    async def _forward(
        self, broker: int, peer: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while chunk := await reader.read(_CHUNK):
            if self._cut is not None:
                await self._passable(broker, peer)
            writer.write(chunk)
            await writer.drain()
        raise ConnectionResetError

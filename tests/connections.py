"""Connections between a client and a server of the tests, which a test cuts, and of which it loses an answer."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self

from services.infrastructure.embedded.process import free_port


class Connections:
    """An async context manager: a port of loopback that leads to the server's port while it is open.

    The next ``losses`` answers to requests that have ``lose_answers_to`` in them are lost, with their connections.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port, self._port = server_port, free_port()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.lose_answers_to, self.losses = b"", 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", self._port)

    async def cut(self) -> None:
        """Ends all connections, and refuses new ones."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
        self._writers |= {writer, to_server}
        loses = False

        async def requests() -> None:
            nonlocal loses
            while data := await reader.read(65_536):
                if self.losses and self.lose_answers_to in data:
                    loses, self.losses = True, self.losses - 1
                to_server.write(data)

        async def answers() -> None:
            while (data := await from_server.read(65_536)) and not loses:
                writer.write(data)

        with contextlib.suppress(OSError):
            ways = [asyncio.ensure_future(requests()), asyncio.ensure_future(answers())]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        for one in (writer, to_server):
            one.transport.abort()
            self._writers.discard(one)

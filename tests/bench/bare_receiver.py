"""A business system that costs next to nothing: answers every POST with a small JSON object, on all of 127.0.0.0/8.

python -m tests.bench.bare_receiver port
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import uvloop

from tests.bench.child_process import report_ready

_ANSWER = b'{"ok": true}'
_WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(_ANSWER), _ANSWER)


class Answering(asyncio.Protocol):
    """Reads requests that have a Content-Length, one after the other."""

    def __init__(self) -> None:
        self._came = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._came += data
        while (head := self._came.find(b"\r\n\r\n")) >= 0:
            length = self._came.lower().find(b"content-length:", 0, head)
            size = int(self._came[length + 15 : self._came.find(b"\r\n", length)])
            if len(self._came) < head + 4 + size:
                return
            self._came = self._came[head + 4 + size :]
            self._transport.write(_WHOLE)


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Answering, "0.0.0.0", int(sys.argv[1]), backlog=1024)  # noqa: S104 -- every 127.x
    report_ready()
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())

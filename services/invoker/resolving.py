"""Names to addresses, judged: in threads of our own, so that a slow name server holds up nobody else's work."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from services.domain.address import Allowances, refusal_of_addresses

_THREADS = 64

LookUp = Callable[[str, int, socket.AddressFamily], list[tuple[Any, ...]]]
"""As `socket.getaddrinfo` answers for a stream."""


class AddressRefused(OSError):
    """The guard said no; the text is the clause why."""


class NameServerFailed(OSError):
    """The name could not be looked up at the moment: a fault of ours or of the network, not of the receiver."""


def look_up(host: str, port: int, family: socket.AddressFamily) -> list[tuple[Any, ...]]:
    return list(socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG))


class JudgingResolver(AbstractResolver):
    """Refuses a name whose answers mix public and private: one of them would do for rebinding."""

    def __init__(self, allowances: Allowances, look_up: LookUp = look_up) -> None:
        self._allowances, self._look_up = allowances, look_up
        self._threads = ThreadPoolExecutor(_THREADS, "names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._threads, self._look_up, host, port, family)
        except socket.gaierror as error:
            if error.errno == socket.EAI_AGAIN:
                raise NameServerFailed(error.errno, "the name server did not answer") from None
            raise
        answers = [
            ResolveResult(hostname=host, host=one[4][0], port=port, family=one[0], proto=one[2], flags=0)
            for one in found
        ]
        refusal = refusal_of_addresses((one["host"] for one in answers), port, self._allowances, host)
        if refusal is not None:
            raise AddressRefused(refusal)
        return answers

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

"""Names to addresses, judged: in threads of our own, so that a slow name server holds up nobody else's work.

However many calls want a name at once, it is looked up once: a name whose server is silent costs one thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from services.domain.address import Allowances, refusal_of_addresses

_THREADS = 128
_LATELY_S = 30.0

LookUp = Callable[[str, int, socket.AddressFamily], list[tuple[Any, ...]]]
"""As `socket.getaddrinfo` answers for a stream."""


class AddressRefused(OSError):
    """The guard said no; the text is the clause why."""


class NameServerFailed(OSError):
    """The name could not be looked up at the moment; the text is the clause that says so.

    ``ours``: nobody else's could lately either, so that it is our name server or network, and not this name's own.
    """

    def __init__(self, text: str, *, ours: bool) -> None:
        super().__init__(text)
        self.ours = ours


def look_up(host: str, port: int, family: socket.AddressFamily) -> list[tuple[Any, ...]]:
    return list(socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG))


async def addresses_behind(places: Iterable[str], look_up: LookUp = look_up) -> list[str]:
    """``address:port`` of every ``host:port`` that has a name which can be looked up now."""
    found: set[str] = set()
    for place in places:
        host, _, port = place.rpartition(":")
        with contextlib.suppress(OSError, ValueError):
            family = socket.AF_UNSPEC
            for answer in await asyncio.to_thread(look_up, host.strip("[]"), int(port), family):
                found.add(f"[{answer[4][0].partition('%')[0]}]:{port}")
    return sorted(found)


class JudgingResolver(AbstractResolver):
    """Refuses a name whose answers mix public and private: one of them would do for rebinding."""

    def __init__(self, allowances: Allowances, look_up: LookUp = look_up, patience_s: float = 5.0) -> None:
        self._allowances, self._look_up, self._patience_s = allowances, look_up, patience_s
        self._threads = ThreadPoolExecutor(_THREADS, "names")
        self._under_way: dict[tuple[Any, ...], asyncio.Future[list[tuple[Any, ...]]]] = {}
        self._answered: tuple[str, float] = ("", -_LATELY_S)
        """The last name that a name server said anything about, and when."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        host = host.rstrip(".")
        try:
            async with asyncio.timeout(self._patience_s):
                found = await asyncio.shield(self._looking_up(host, port, family))
        except TimeoutError:
            raise self._failed(host, f"its name was not looked up within {self._patience_s:g} s") from None
        except socket.gaierror as error:
            if error.errno == socket.EAI_AGAIN:
                raise self._failed(host, "its name could not be looked up at the moment") from None
            self._answered = host, time.monotonic()
            raise
        self._answered = host, time.monotonic()
        answers = [
            ResolveResult(hostname=host, host=one[4][0], port=port, family=one[0], proto=one[2], flags=0)
            for one in found
        ]
        refusal = refusal_of_addresses((one["host"] for one in answers), port, self._allowances, host)
        if refusal is not None:
            raise AddressRefused(refusal)
        return answers

    def _looking_up(self, *wanted: Any) -> asyncio.Future[list[tuple[Any, ...]]]:
        found = self._under_way.get(wanted)
        if found is None:
            found = asyncio.get_running_loop().run_in_executor(self._threads, self._look_up, *wanted)
            self._under_way[wanted] = found
            found.add_done_callback(partial(self._looked_up, wanted))
        return found

    def _looked_up(self, wanted: tuple[Any, ...], ended: asyncio.Future[list[tuple[Any, ...]]]) -> None:
        del self._under_way[wanted]
        if not ended.cancelled():
            ended.exception()  # seen, even where everybody who waited has gone

    def _failed(self, host: str, text: str) -> NameServerFailed:
        answered, at = self._answered
        return NameServerFailed(text, ours=answered == host or time.monotonic() - at > _LATELY_S)

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

"""Resolves names to addresses and guards them, in threads of its own: a slow name server delays no other work.

Calls that need the same name at once share one look-up, so a name whose server is silent costs one thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

from aiohttp.abc import AbstractResolver, ResolveResult

from services.domain.url_policy import Allowlist, addresses_refusal

_THREADS = 128
_RECENT_S = 30.0

AddressInfo = tuple[Any, ...]
Lookup = Callable[[str, int, socket.AddressFamily], list[AddressInfo]]
"""Host, port and family to what `socket.getaddrinfo` returns for a stream."""


class AddressRefused(OSError):
    """The URL policy refuses an address; the text is for the operator's log alone."""


class NameServerFailed(OSError):
    """The name cannot be looked up at the moment; the text is the clause that says so.

    ``our_fault``: no other name could be looked up lately either, so the fault is in our name server or network.
    """

    def __init__(self, text: str, *, our_fault: bool) -> None:
        super().__init__(text)
        self.our_fault = our_fault


def lookup(host: str, port: int, family: socket.AddressFamily) -> list[AddressInfo]:
    return list(socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG))


async def resolve_addresses(hosts: Iterable[str], lookup: Lookup = lookup) -> list[str]:
    """Each ``host:port`` as ``address:port``, for every address of its name; a name without one is left out."""
    found: set[str] = set()
    for host_and_port in hosts:
        host, _, port = host_and_port.rpartition(":")
        with contextlib.suppress(OSError, ValueError):
            for info in await asyncio.to_thread(lookup, host.strip("[]"), int(port), socket.AF_UNSPEC):
                found.add(f"[{info[4][0].partition('%')[0]}]:{port}")
    return sorted(found)


class _LastAnswer(NamedTuple):
    """The name that a name server answered for last, and when."""

    host: str
    at: float


class NameLookups:
    """Looks names up, in threads. Knows whether a failure is the name's or our name server's."""

    def __init__(self, lookup: Lookup = lookup, timeout_s: float = 5.0) -> None:
        self._lookup, self._timeout_s = lookup, timeout_s
        self._threads = ThreadPoolExecutor(_THREADS, "names")
        self._in_progress: dict[tuple[Any, ...], asyncio.Future[list[AddressInfo]]] = {}
        self._last_answer = _LastAnswer("", -_RECENT_S)

    async def find(self, host: str, port: int, family: socket.AddressFamily) -> list[AddressInfo]:
        """Raises `NameServerFailed`, or `socket.gaierror` where the name does not exist."""
        try:
            async with asyncio.timeout(self._timeout_s):
                infos = await asyncio.shield(self._shared_lookup(host, port, family))
        except TimeoutError:
            raise self._failure(host, f"its name was not looked up within {self._timeout_s:g} s") from None
        except socket.gaierror as error:
            if error.errno == socket.EAI_AGAIN:
                raise self._failure(host, "its name could not be looked up at the moment") from None
            self._last_answer = _LastAnswer(host, time.monotonic())
            raise
        self._last_answer = _LastAnswer(host, time.monotonic())
        return infos

    def _shared_lookup(self, *key: Any) -> asyncio.Future[list[AddressInfo]]:
        future = self._in_progress.get(key)
        if future is None:
            future = asyncio.get_running_loop().run_in_executor(self._threads, self._lookup, *key)
            self._in_progress[key] = future
            future.add_done_callback(partial(self._on_looked_up, key))
        return future

    def _on_looked_up(self, key: tuple[Any, ...], future: asyncio.Future[list[AddressInfo]]) -> None:
        del self._in_progress[key]
        if not future.cancelled():
            future.exception()  # marks it as retrieved, where every waiter has been cancelled

    def _failure(self, host: str, text: str) -> NameServerFailed:
        last = self._last_answer
        return NameServerFailed(text, our_fault=last.host == host or time.monotonic() - last.at > _RECENT_S)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class GuardedResolver(AbstractResolver):
    """Refuses a name that the account may not call: DNS rebinding would use one of its addresses."""

    def __init__(self, lookups: NameLookups, allowlist: Allowlist, account: str | None) -> None:
        self._lookups, self._allowlist, self._account = lookups, allowlist, account

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises `AddressRefused`, `NameServerFailed`, or `socket.gaierror` where the name does not exist."""
        host = host.rstrip(".")
        results = [
            ResolveResult(hostname=host, host=address[0], port=port, family=family, proto=protocol, flags=0)
            for family, _, protocol, _, address in await self._lookups.find(host, port, family)
        ]
        addresses = [result["host"] for result in results]
        refusal = addresses_refusal(addresses, port, self._allowlist, account=self._account, host=host)
        if refusal is not None:
            raise AddressRefused(refusal.detail)
        return results

    async def close(self) -> None:
        """The look-ups are shared, and closed by their owner."""

"""The memory that requests take: their bodies while they come, what becomes of these, and answers that are not read.

An account may have many connections, and send or read slowly on each. So a body stays unread until its account may have
so many bytes in memory. A request begins once what its body may take when it is parsed fits beside what the account has
already, to which its answers count until their clients have taken them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from starlette.types import Receive

from services.gateway.limits import BODY_TIMEOUT_S, MAX_LOG_ON_BYTES
from services.gateway.problems import Problem, overloaded, too_many_waiting
from services.gateway.requests import WAITING_PER_ACCOUNT
from services.infrastructure.byte_budget import ByteBudget
from services.infrastructure.fair_queue import FairQueue, QueueFull, Turn

MAX_WAIT_S = 20.0
"""For the turn of a request, or of its body."""

_KIB, _MIB = 1024, 1024 * 1024
_ANY_NUMBER = 100_000
"""More than there are connections: bodies are counted in bytes."""


def memory_budget() -> ByteBudget:
    """Of the requests that are worked on, and the answers that are not read yet."""
    return ByteBudget(16 * _MIB, 40 * _MIB, reserve=16 * _MIB, share=_MIB)


def memory_of(body: bytes) -> int:
    """How many bytes a body may take, as text and parsed, with copies of both. Far too much for ordinary ones.

    Python's objects are much larger than their text: 512 KiB of empty lists are 11 MiB, of small objects 16 MiB. To
    count what begins a value takes microseconds. Punctuation in a text counts too, which only lets the request wait.
    """
    values = 72 * body.count(b",") + 64 * body.count(b"[") + 200 * body.count(b"{")
    return max(1, min(4 * len(body) + values, 16 * _MIB))


async def begin_turn(turn: Turn, account: str | None, size: int = 1) -> None:
    """Waits for the turn, and until so many bytes fit. Raises `Problem`; None is the platform."""
    try:
        async with asyncio.timeout(MAX_WAIT_S):
            await turn.begin(account, size)
    except QueueFull:
        raise too_many_waiting() from None
    except TimeoutError:
        raise (too_many_waiting() if turn.holds_of(account) else overloaded()) from None


class RequestBodies:
    """Reads the bodies of requests, of each account and in all only so many bytes at a time."""

    def __init__(self, budget: ByteBudget | None = None) -> None:
        budget = budget or ByteBudget(4 * _MIB, 16 * _MIB, reserve=8 * _MIB, share=512 * _KIB)
        self._queue = FairQueue(_ANY_NUMBER, _ANY_NUMBER, WAITING_PER_ACCOUNT, budget=budget)

    @classmethod
    def of_strangers(cls) -> RequestBodies:
        """Those of the forms with which they log on: apart, so that they take no room of an account's."""
        return cls(ByteBudget(64 * _KIB, _MIB, reserve=512 * _KIB, share=MAX_LOG_ON_BYTES))

    @asynccontextmanager
    async def read(
        self, headers: Iterable[tuple[bytes, bytes]], receive: Receive, account: str | None, limit: int
    ) -> AsyncIterator[bytes]:
        """Yields the whole body, of at most ``limit`` bytes. It counts until the context ends. Raises `Problem`.

        Nothing is read before there is room for as much as the request declares; for ``limit`` if it comes in chunks.
        """
        declared = dict(headers)
        size = int(declared.get(b"content-length", limit if b"transfer-encoding" in declared else 0))
        if size > limit:
            raise _too_large(limit)
        turn = Turn(self._queue)
        if size:
            await begin_turn(turn, account, size)
        try:
            body = await _read(receive, limit)
            turn.give_back(size - len(body))
            yield body
        finally:
            turn.end()
            turn.give_back()


async def _read(receive: Receive, limit: int) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":  # a part of a body must not be taken for the whole
                    raise Problem(400, "BodyUnreadable", "The client left before its body was whole.")
                body += message.get("body", b"")
                if len(body) > limit:
                    raise _too_large(limit)
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        detail = f"The body did not arrive within {BODY_TIMEOUT_S:g} s."
        raise Problem(408, "RequestTimeout", detail).with_headers({"Connection": "close"}) from None
    return bytes(body)


def _too_large(limit: int) -> Problem:
    return Problem(413, "BodyTooLarge", f"A body may have at most {limit:,} bytes.")

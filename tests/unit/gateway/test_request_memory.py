"""How much of their bodies requests may have in memory, and what a body takes when it is parsed."""

from __future__ import annotations

import asyncio
import tracemalloc
from contextlib import AsyncExitStack

import pytest
from pydantic_core import from_json
from starlette.types import Message

from services.gateway import request_memory
from services.gateway.limits import MAX_BODY_BYTES, MAX_RATE_BOOK_BYTES
from services.gateway.problems import Problem
from services.gateway.request_memory import RequestBodies, memory_of

_OF_AN_ACCOUNT = 8
"""Bodies at the limit that it may have in memory."""
_BESIDE_THE_RESERVE = 16
_IN_CHUNKS = [(b"transfer-encoding", b"chunked")]


class Client:
    """Sends a body of so many bytes, none before it is asked for it."""

    def __init__(self, size: int = MAX_BODY_BYTES) -> None:
        self.size, self.was_asked = size, False

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [(b"content-length", str(self.size).encode())]

    async def receive(self) -> Message:
        self.was_asked = True
        return {"type": "http.request", "body": b" " * self.size, "more_body": False}


async def _hold(bodies: RequestBodies, held: AsyncExitStack, account: str, client: Client) -> bytes:
    return await held.enter_async_context(bodies.read(client.headers, client.receive, account, MAX_BODY_BYTES))


async def test_nothing_of_a_body_is_read_before_its_account_has_room_for_it() -> None:
    bodies, late = RequestBodies(), Client()
    async with AsyncExitStack() as held:
        for _ in range(_OF_AN_ACCOUNT):
            await _hold(bodies, held, "busy", Client())
        async with AsyncExitStack() as others:
            waiting = asyncio.create_task(_hold(bodies, others, "busy", late))
            await asyncio.sleep(0)
            await _hold(bodies, others, "quiet", Client())
            assert not late.was_asked
            await held.aclose()
            assert len(await waiting) == MAX_BODY_BYTES


async def test_a_body_of_no_declared_length_counts_as_the_largest_until_it_is_there() -> None:
    bodies = RequestBodies()
    async with AsyncExitStack() as held:
        for _ in range(10 * _OF_AN_ACCOUNT):
            client = Client(1_000)
            await held.enter_async_context(bodies.read(_IN_CHUNKS, client.receive, "busy", MAX_BODY_BYTES))
        never = asyncio.Event()

        async def stalled() -> Message:
            await never.wait()
            raise AssertionError

        slow = [bodies.read(_IN_CHUNKS, stalled, "busy", MAX_BODY_BYTES) for _ in range(_OF_AN_ACCOUNT)]
        tasks = [asyncio.create_task(one.__aenter__()) for one in slow]
        await asyncio.sleep(0)
        late = Client()
        waiting = asyncio.create_task(_hold(bodies, held, "busy", late))
        await asyncio.sleep(0)
        assert not late.was_asked
        for one in (waiting, *tasks):
            one.cancel()
        await asyncio.gather(waiting, *tasks, return_exceptions=True)


async def test_a_request_that_has_no_body_waits_for_no_room() -> None:
    bodies, empty = RequestBodies(), Client(0)
    async with AsyncExitStack() as held:
        for _ in range(_OF_AN_ACCOUNT):
            await _hold(bodies, held, "busy", Client())
        deleting = asyncio.create_task(held.enter_async_context(bodies.read([], empty.receive, "busy", MAX_BODY_BYTES)))
        await asyncio.wait([deleting], timeout=5)
        assert deleting.done()
        assert await deleting == b""


async def test_a_body_whose_client_left_is_not_taken_for_a_whole_one() -> None:
    messages: list[Message] = [
        {"type": "http.request", "body": b'{"a": 1}', "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return messages.pop(0)

    with pytest.raises(Problem, match="left before its body was whole"):
        async with RequestBodies().read([(b"content-length", b"100")], receive, "busy", MAX_BODY_BYTES):
            raise AssertionError


async def test_accounts_that_hold_all_they_may_leave_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = RequestBodies()
    async with AsyncExitStack() as held:
        for number in range(_BESIDE_THE_RESERVE):
            await _hold(bodies, held, f"busy-{number // _OF_AN_ACCOUNT}", Client())
        await _hold(bodies, held, "quiet", Client())
        monkeypatch.setattr(request_memory, "MAX_WAIT_S", 0)
        with pytest.raises(Problem) as refused:
            await _hold(bodies, held, "busy-0", late := Client())
        assert (refused.value.status, refused.value.headers, late.was_asked) == (429, {"Retry-After": "1"}, False)


async def test_a_gateway_whose_room_is_taken_by_many_accounts_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = RequestBodies()
    async with AsyncExitStack() as held:
        for number in range(2 * _BESIDE_THE_RESERVE):
            await _hold(bodies, held, f"busy-{number}", Client())
        monkeypatch.setattr(request_memory, "MAX_WAIT_S", 0)
        with pytest.raises(Problem) as refused:
            await _hold(bodies, held, "quiet", Client())
        assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "5"})


@pytest.mark.parametrize(
    "piece",
    ["[]", "{}", "[0]", "[[]]", "[[[]]]", "0", "1111", "1.5", '"é"', '"aa"', '{"":0}', '{"":[]}', '{"":{"":0}}'],
)
def test_what_a_body_takes_is_never_estimated_too_low(piece: str) -> None:
    values = 65_536 // (len(piece) + 1)
    _require_enough(f"[{','.join([piece] * values)}]".encode())


def test_names_that_are_all_different_are_counted_too() -> None:
    _require_enough(("{" + ",".join(f'"{number:x}":0' for number in range(5_000)) + "}").encode())
    _require_enough(("[" + ",".join(f'{{"{number:x}":0}}' for number in range(5_000)) + "]").encode())


def _require_enough(body: bytes) -> None:
    tracemalloc.start()
    try:
        value = from_json(body)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert value
    assert taken + len(body) <= memory_of(body)


def test_a_rate_book_fits_at_all() -> None:
    assert MAX_RATE_BOOK_BYTES <= 4 * 2**20

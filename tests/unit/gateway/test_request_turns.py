"""Requests wait for their accounts' turns before a route works on them, and hold none while they wait for others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, cast

import pytest
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from services.gateway import request_guard
from services.gateway.admission import CHECKS_BESIDE_OTHERS, Admission
from services.gateway.authentication.authenticator import Authenticator
from services.gateway.authentication.oidc.configuration import OidcConfiguration
from services.gateway.authentication.oidc.tokens import TrustedIssuers
from services.gateway.authentication.refusals import Refusals
from services.gateway.limits import BURST_S, Limits, RateLimits
from services.gateway.request_guard import RequestGuard
from services.gateway.request_memory import RequestBodies, memory_budget
from services.gateway.requests import in_turns, work_queue
from services.gateway.strangers import Strangers
from services.infrastructure.fair_queue import FairQueue, Turn
from services.infrastructure.postgres import Pool
from tests.patience import PATIENCE_S
from tests.unit.gateway.key_rows import key_row

TOKENS = {account: f"sb_{account:a<8}_{'x' * 43}" for account in ("busy", "quiet")}


async def _passes() -> None:
    """Takes some passes of the event loop, however slow the machine is."""
    for _ in range(20):
        await asyncio.sleep(0)


class Keys:
    """A database with a key of each account, which takes a turn of the event loop for a query."""

    def __init__(self) -> None:
        self.queries: list[list[str]] = []
        self.revoked: set[str] = set()

    async def fetch(self, _: str, key_ids: list[str]) -> list[dict[str, Any]]:
        self.queries.append(key_ids)
        found = [key_row(token, account) for account, token in TOKENS.items() if token[3:11] in key_ids]
        await _passes()
        return [row for row in found if row["key_id"] not in self.revoked]


async def served(app: Any, account: str) -> list[Message]:
    sent: list[Message] = []

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    await app(request_of(account), receive, send)
    return sent


def request_of(account: str) -> Scope:
    headers = [(b"authorization", b"Bearer " + TOKENS[account].encode())]
    return {"type": "http", "method": "GET", "path": "/v1/x", "query_string": b"", "headers": headers, "state": {}}


def guard(route: Any, queue: FairQueue, rates: RateLimits | None = None) -> RequestGuard:
    issuers = TrustedIssuers(OidcConfiguration())
    rates = rates or RateLimits(Limits())
    keys, strangers = cast("Pool", Keys()), Strangers(100, queue)
    return RequestGuard(route, keys, rates, queue, RequestBodies(), Refusals(), issuers, strangers)


async def _whole(*request: Any) -> None:
    await Response(b" " * 9 * 2**20)(*request)


async def _in_pieces(*request: Any) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b" " * 9 * 2**20

    await StreamingResponse(pieces())(*request)


@pytest.mark.parametrize("answer", [_whole, _in_pieces])
async def test_a_request_waits_until_its_accounts_answers_are_taken_and_no_other_accounts_does(
    answer: Callable[..., Awaitable[None]],
) -> None:
    begun: list[str] = []
    taken = asyncio.Event()

    async def route(scope: Scope, _: Receive, send: Send) -> None:
        begun.append(scope["state"]["principal"].scope.account)
        await answer(scope, _, send)

    async def unread(app: Any, account: str) -> None:
        """A client that begins to read once it is told to."""
        pieces = 0

        async def send(_: Message) -> None:
            nonlocal pieces
            pieces += 1
            if pieces > 2:  # the head, the body, and then what waits for the body
                await taken.wait()

        await app(request_of(account), asyncio.Event().wait, send)

    app = guard(route, work_queue(memory_budget()))
    first = [asyncio.create_task(unread(app, "busy")) for _ in range(2)]
    while len(begun) < 2:  # noqa: ASYNC110 -- until both are answered
        await asyncio.sleep(0)
    waiting = asyncio.create_task(unread(app, "busy"))
    other = asyncio.create_task(unread(app, "quiet"))
    while "quiet" not in begun:  # noqa: ASYNC110 -- behind which it would have begun
        await asyncio.sleep(0)
    assert begun == ["busy", "busy", "quiet"]
    taken.set()
    await asyncio.gather(*first, waiting, other)
    assert begun[3:] == ["busy"]


async def test_a_flood_is_one_of_the_turns() -> None:
    order: list[str] = []

    async def route(scope: Scope, _: Receive, send: Send) -> None:
        order.append(scope["state"]["principal"].scope.account)
        await _passes()
        await send({"type": "http.response.start", "status": 200})

    app = guard(route, FairQueue(4, 3, 256, beside_others=1))
    flood = [asyncio.create_task(served(app, "busy")) for _ in range(64)]
    while not order:  # noqa: ASYNC110 -- until the flood is being served
        await asyncio.sleep(0)
    await asyncio.gather(*(served(app, "quiet") for _ in range(3)), *flood)

    first, last = order.index("quiet"), len(order) - order[::-1].index("quiet")
    assert order[first:last].count("busy") <= 3
    assert order[last:].count("busy") > 64 // 4, "the flood came first"


async def test_more_than_may_wait_are_told_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_guard, "REFUSAL_DELAY_S", 0)
    go = asyncio.Event()

    async def route(_: Scope, __: Receive, send: Send) -> None:
        await go.wait()
        await send({"type": "http.response.start", "status": 200})

    app = guard(route, FairQueue(1, 1, 2))
    asked = [asyncio.create_task(served(app, "busy")) for _ in range(5)]
    await asyncio.sleep(0.1)
    go.set()
    statuses = sorted(messages[0]["status"] for messages in await asyncio.gather(*asked))

    assert statuses == [200, 200, 200, 429, 429]


async def test_a_refusal_for_its_rate_is_answered_late_and_hinders_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a client that repeats at once would keep the gateway busy with refusals."""
    monkeypatch.setattr(request_guard, "REFUSAL_DELAY_S", 3600)

    async def route(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})

    app = guard(route, FairQueue(4, 3, 256), RateLimits(Limits(requests_per_key=1), clock=lambda: 0.0))
    for _ in range(BURST_S):
        await served(app, "busy")
    refused = asyncio.create_task(served(app, "busy"))
    for _ in range(3):
        assert [message["status"] for message in await served(app, "quiet")] == [200]
    assert not refused.done()
    refused.cancel()


async def test_credentials_are_checked_in_turns() -> None:
    """A flood of one waits in the line of whoever it stood for; one that is new here in that of its address."""

    async def route(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})

    app = guard(route, FairQueue(4, 3, 256))
    app._admission = Admission(clock=lambda: 0.0)
    await served(app, "busy")
    await served(app, "quiet")
    async with AsyncExitStack() as flood:
        for _ in range(CHECKS_BESIDE_OTHERS):
            await flood.enter_async_context(app._admission.turn(TOKENS["busy"], "10.0.0.1"))
        waiting = asyncio.create_task(served(app, "busy"))
        async with app._admission.turn("new", "10.0.0.1"), app._admission.turn("new", "10.0.0.2"):
            for _ in range(3):
                await served(app, "quiet")
        assert not waiting.done()
    assert [message["status"] for message in await waiting] == [200]


@pytest.mark.parametrize("ends", ["response", "error", "pause"])
async def test_a_turn_ends_with_the_response_an_error_or_a_wait(ends: str) -> None:
    queue, go = FairQueue(1, 1, 256), asyncio.Event()

    async def route(scope: Scope, _: Receive, send: Send) -> None:
        turn: Turn = scope["state"]["turn"]
        if scope["state"]["principal"].scope.account == "quiet":
            await send({"type": "http.response.start", "status": 200})
        elif ends == "response":
            await send({"type": "http.response.start", "status": 200})
            await go.wait()  # a stream, or a client that reads slowly
        elif ends == "error":
            raise ValueError
        else:
            async with turn.paused():
                await go.wait()

    app = guard(route, queue)
    first = asyncio.create_task(served(app, "busy"))
    await asyncio.sleep(0.05)
    async with asyncio.timeout(PATIENCE_S):
        await served(app, "quiet")
    go.set()
    await asyncio.gather(first, return_exceptions=True)


async def test_each_part_of_a_long_answer_is_made_in_a_turn_and_none_is_held_while_the_client_reads() -> None:
    queue, made = FairQueue(1, 1, 256), list[str]()
    turn = Turn(queue)
    await turn.begin("busy")
    turn.end()  # the response began

    async def parts() -> AsyncIterator[str]:
        for part in ("first", "second"):
            made.append(part)
            yield part

    answer = in_turns(turn, parts())
    async with asyncio.timeout(PATIENCE_S):
        assert await anext(answer) == "first"
        async with queue.turn("quiet"):
            reading = asyncio.create_task(_rest(answer))
            for _ in range(10):
                await asyncio.sleep(0)
            assert made == ["first"]
        assert await reading == ["second"]


async def _rest(parts: AsyncIterator[str]) -> list[str]:
    return [part async for part in parts]


async def test_tokens_that_come_together_are_checked_in_one_query() -> None:
    keys = Keys()
    authenticator = Authenticator(cast("Pool", keys))

    found = await asyncio.gather(*(authenticator.authenticate(TOKENS["busy"]) for _ in range(64)))

    assert [key.scope.account for key in found if key is not None] == ["busy"] * 64
    assert len(keys.queries) == 1


async def test_a_request_that_comes_during_a_query_gets_one_of_its_own() -> None:
    keys = Keys()
    authenticator = Authenticator(cast("Pool", keys))
    first = asyncio.create_task(authenticator.authenticate(TOKENS["busy"]))
    await asyncio.sleep(0.005)
    keys.revoked.add(TOKENS["busy"][3:11])

    assert await authenticator.authenticate(TOKENS["busy"]) is None
    await first
    assert len(keys.queries) == 2


async def test_a_database_that_is_away_is_each_requests_error() -> None:
    class Away:
        async def fetch(self, *_: Any) -> list[Any]:
            raise OSError

    authenticator = Authenticator(cast("Pool", Away()))
    found = await asyncio.gather(
        *(authenticator.authenticate(TOKENS["busy"]) for _ in range(3)), return_exceptions=True
    )

    assert [type(error) for error in found] == [OSError] * 3

"""Requests without a checked credential wait for turns of their addresses, and have a rate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from starlette.types import Message, Receive, Scope, Send

from services.gateway import request_guard
from services.gateway.application import application
from services.gateway.authentication.oidc.configuration import OidcConfiguration
from services.gateway.authentication.oidc.tokens import TrustedIssuers
from services.gateway.authentication.refusals import Refusals
from services.gateway.limits import BURST_S, Limits, RateLimits
from services.gateway.problems import Problem
from services.gateway.request_guard import RequestGuard
from services.gateway.request_memory import RequestBodies
from services.gateway.requests import work_queue
from services.gateway.strangers import LOG_ON_BURST_S, LOG_ONS_PER_ADDRESS, TURNS, WAITING_PER_ADDRESS, Strangers
from services.infrastructure.fair_queue import FairQueue, Turn
from services.infrastructure.postgres import Pool
from tests.patience import PATIENCE_S
from tests.unit.gateway.key_rows import key_row
from tests.unit.gateway.test_request_guard import ask

TOKEN = f"sb_abcd1234_{'x' * 43}"


class OneKey:
    async def fetch(self, _: str, __: list[str]) -> list[dict[str, Any]]:
        return [key_row(TOKEN, "acme")]


class Gateway:
    """The guard in front of a route that answers when it may ``go``."""

    def __init__(self, per_address: int = 1_000, clock: Any = lambda: 0.0) -> None:
        self.go, self.begun = asyncio.Event(), asyncio.Semaphore(0)
        self.work = work_queue()
        self.strangers = Strangers(per_address, self.work, clock)
        self._guard = RequestGuard(
            self._route,
            cast("Pool", OneKey()),
            RateLimits(Limits()),
            self.work,
            RequestBodies(),
            Refusals(),
            TrustedIssuers(OidcConfiguration()),
            self.strangers,
        )

    async def _route(self, scope: Scope, _: Receive, send: Send) -> None:
        self.begun.release()
        if scope["path"] not in ("/healthz", "/v1/x"):
            await self.go.wait()
        await send({"type": "http.response.start", "status": 200})

    async def ask(self, path: str, address: str, token: str = "") -> int:
        sent: list[Message] = []

        async def receive() -> Message:
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Message) -> None:
            sent.append(message)

        headers = [(b"authorization", b"Bearer " + token.encode())] if token else []
        scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": headers, "state": {}}
        await self._guard({**scope, "client": (address, 1)}, receive, send)
        return int(sent[0]["status"])


@pytest.fixture(autouse=True)
async def patience(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setattr(request_guard, "REFUSAL_DELAY_S", 0)
    async with asyncio.timeout(PATIENCE_S):
        yield


async def test_a_flood_of_one_address_holds_one_turn_and_a_probe_of_another_gets_the_next() -> None:
    gateway = Gateway()
    flood = [asyncio.create_task(gateway.ask("/openapi.json", "10.0.0.1")) for _ in range(64)]
    await gateway.begun.acquire()
    probe = asyncio.create_task(gateway.ask("/readyz", "10.0.0.2"))
    await gateway.begun.acquire()
    assert gateway.begun.locked(), "no other of the flood has begun"
    assert await gateway.ask("/healthz", "10.0.0.3") == 200, "though no turn is left"
    assert await gateway.ask("/v1/x", "10.0.0.1", TOKEN) == 200, "who has a key takes none of these turns"
    gateway.go.set()
    assert [await one for one in (probe, *flood)] == [200] * 65


async def test_all_addresses_together_have_few_turns() -> None:
    gateway = Gateway()
    asked = [asyncio.create_task(gateway.ask("/readyz", f"10.0.0.{number}")) for number in range(16)]
    for _ in range(TURNS):
        await gateway.begun.acquire()
    assert await gateway.ask("/v1/x", "10.0.0.1", TOKEN) == 200
    await gateway.begun.acquire()
    assert gateway.begun.locked()
    gateway.go.set()
    await asyncio.gather(*asked)


async def test_more_than_may_wait_are_told_to_come_again() -> None:
    gateway = Gateway()
    asked = [asyncio.create_task(gateway.ask("/docs", "10.0.0.1")) for _ in range(WAITING_PER_ADDRESS + 3)]
    done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    gateway.go.set()
    assert [one.result() for one in done] == [429] * len(done)
    assert sorted(await asyncio.gather(*asked))[-3:] == [200, 429, 429]


@pytest.mark.parametrize("path", ["/healthz", "/nowhere", "/v1/nowhere", "/a%2Fb"])
async def test_requests_without_a_credential_have_a_rate(path: str, subtests: pytest.Subtests) -> None:
    gateway = Gateway(per_address=1)
    gateway.go.set()
    assert 429 not in [await gateway.ask(path, "10.0.0.1") for _ in range(BURST_S)]
    assert await gateway.ask(path, "10.0.0.1") == 429
    with subtests.test("another address has its own"):
        assert await gateway.ask(path, "10.0.0.2") != 429
    with subtests.test("who has a key is not refused"):
        assert await gateway.ask("/v1/x", "10.0.0.1", TOKEN) == 200


async def test_an_ipv6_client_has_one_rate_for_the_network_in_which_it_chooses_its_address() -> None:
    strangers = Strangers(1, work_queue(), lambda: 0.0)
    for number in range(BURST_S):
        strangers.count(f"2001:db8::{number}")
    with pytest.raises(Problem) as refused:
        strangers.count("2001:db8::ffff")
    assert (refused.value.status, refused.value.headers) == (429, {"Retry-After": "1"})
    strangers.count("2001:db8:0:1::1")
    strangers.count("::ffff:10.0.0.1")
    for _ in range(BURST_S - 1):
        strangers.count("10.0.0.1")
    with pytest.raises(Problem):
        strangers.count("10.0.0.1")
    strangers.count("::ffff:10.0.0.2")


async def test_who_is_recognised_is_not_counted_and_goes_on_in_a_turn_of_the_account() -> None:
    work = FairQueue(1, 1, 256)
    strangers, turn = Strangers(1, work, lambda: 0.0), Turn(work)
    async with work.turn("acme"):
        for _ in range(BURST_S + 1):
            strangers.count("10.0.0.1")
            await strangers.begin(turn, "10.0.0.1")
            strangers.recognised(turn, "10.0.0.1")
        account = asyncio.create_task(turn.begin("acme"))
        await strangers.begin(Turn(work), "10.0.0.1")
        assert not account.done()
    await account


async def test_log_ons_have_a_rate_of_their_own() -> None:
    strangers = Strangers(1_000, work_queue(), lambda: 0.0)
    for _ in range(LOG_ONS_PER_ADDRESS * LOG_ON_BURST_S):
        strangers.count_log_on("10.0.0.1")
    with pytest.raises(Problem, match="log on"):
        strangers.count_log_on("10.0.0.1")
    strangers.count_log_on("10.0.0.2")


OWN_ORIGIN = ((b"host", b"gateway"), (b"origin", b"http://gateway"))


async def form(go: asyncio.Event, is_read: asyncio.Event | None = None) -> AsyncIterator[bytes]:
    if is_read is not None:
        is_read.set()
    await go.wait()
    yield b"api_key=none"


async def test_a_page_that_logs_on_again_and_again_is_told_to_wait() -> None:
    gateway = application(cast("Pool", None))
    gateway.state.strangers = Strangers(1_000, work_queue(), lambda: 0.0)
    go = asyncio.Event()
    go.set()
    asked = [
        await ask(gateway, "POST", "/console/log-on", *OWN_ORIGIN, body=form(go))
        for _ in range(LOG_ONS_PER_ADDRESS * LOG_ON_BURST_S + 1)
    ]
    assert {one.status for one in asked[:-1]} == {422}
    assert (asked[-1].status, "log on" in asked[-1].text) == (429, True)


async def test_a_form_that_stays_away_holds_no_turn() -> None:
    gateway, go, is_read = application(cast("Pool", None)), asyncio.Event(), asyncio.Event()
    slow = [
        asyncio.create_task(ask(gateway, "POST", "/console/log-on", *OWN_ORIGIN, body=form(go, is_read)))
        for _ in range(TURNS + 1)
    ]
    await is_read.wait()
    assert (await ask(gateway, "GET", "/docs")).status == 200
    assert not any(one.done() for one in slow)
    go.set()
    assert [(await one).status for one in slow] == [422] * len(slow)

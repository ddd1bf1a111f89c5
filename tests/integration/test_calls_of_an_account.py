"""What one account may ask for over HTTP: test calls at a time and a minute, replays a minute."""

from __future__ import annotations

import asyncio

from aiohttp import web

from services.gateway.limits import Limits
from services.infrastructure.postgres import pool_of
from services.invoker.queue.rate_of_test_calls import wait_of_test_call
from tests.customer import ACCOUNT, Customer, customer
from tests.gateways import gateway
from tests.installation import Installation, fresh
from tests.receivers import Call, Receiver


async def test_a_test_call_too_many_is_refused_and_not_made(
    installation: Installation, receiver: Receiver, shop: Customer
) -> None:
    released = asyncio.Event()

    async def wait(_: Call) -> web.StreamResponse:
        await released.wait()
        return web.Response()

    await shop.open("slow", receiver.on("slow", wait))
    async with gateway(installation, ACCOUNT, Limits(test_calls_per_account=2)) as (api, _):
        path = f"{shop.path('slow')}/test-calls"
        made = [asyncio.create_task(api("POST", path, {})) for _ in range(2)]
        await receiver.wait_for("slow", 2)
        refused = await api("POST", path, {})
        released.set()
        answers = [await one for one in made]
        again = await api("POST", path, {})
    assert (refused.status, refused.body["type"]) == (429, "urn:switchboard:problem:TooManyTestCalls")
    assert int(refused.headers["Retry-After"]) >= 1
    assert [answer.status for answer in [*answers, again]] == [200] * 3
    assert len(receiver.calls["slow"]) == 3


async def test_a_test_call_beyond_the_minutes_rate_is_refused_and_not_made(
    installation: Installation, receiver: Receiver
) -> None:
    account = fresh("acct")
    pool = await pool_of(installation.settings, size=1)
    async with customer(installation, account) as shop, gateway(installation, account, pool=pool) as (api, _):
        await shop.open("crm", receiver.url("hook"))
        path = f"{shop.path('crm')}/test-calls"
        made = await api("POST", path, {})
        for number in range(59):
            assert await wait_of_test_call(pool, (account, shop.channel, f"r{number}")) == 0.0
        refused = await api("POST", path, {})
    assert (made.status, refused.status, refused.body["type"]) == (200, 429, "urn:switchboard:problem:TooManyTestCalls")
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert len(receiver.calls["hook"]) == 1


async def test_replays_beyond_the_minute_wait_for_the_next(
    installation: Installation, receiver: Receiver, shop: Customer
) -> None:
    await shop.open("crm", receiver.url("hook"))
    deliveries = [(await shop.invoke("crm"))["delivery"]["id"] for _ in range(5)]
    everything = {"channel": shop.channel, "states": ["delivered"], "limit": 4}
    async with gateway(installation, ACCOUNT, Limits(replays_per_account=3)) as (api, _):
        nothing = await api("POST", "deliveries/replay", everything | {"states": ["dead"]})
        first = await api("POST", "deliveries/replay", everything)
        second = await api("POST", "deliveries/replay", everything)
        one = await api("POST", f"deliveries/{deliveries[0]}/replay")
    assert (nothing.status, nothing.body) == (202, {"replayed": 0, "more": False})
    assert (first.status, first.body) == (202, {"replayed": 3, "more": True})
    for refused in (second, one):
        assert (refused.status, refused.body["type"]) == (429, "urn:switchboard:problem:TooManyReplays")
        assert 1 <= int(refused.headers["Retry-After"]) <= 20

"""One black hole and one slow endpoint cost only themselves."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
from aiohttp import web

from contracts import topics
from contracts.invocation import InvokeIntent
from contracts.publisher import Publisher
from tests.customer import ACCOUNT, CODE, Customer, customer
from tests.installation import Installation
from tests.receivers import Call, Receiver, black_hole

CHANNELS = 2
SYSTEMS_A_CHANNEL = 7
REQUESTS_EACH = 10
TO_THE_BAD = 60


@dataclass(frozen=True, slots=True)
class Spread:
    """Seconds from the publication of a request to its call's coming."""

    p50: float
    p99: float


async def slow(_: Call) -> web.StreamResponse:
    await asyncio.sleep(5)
    return web.Response()


@dataclass(frozen=True, slots=True)
class System:
    """A system, and the path on which its receiver is called."""

    shop: Customer
    name: str
    path: str


async def ask(publisher: Publisher, system: System, number: int) -> float:
    """Asks for a call, and returns when."""
    began = time.monotonic()
    await publisher.publish(
        InvokeIntent(system=system.name, code=CODE, data={"number": number}),
        channel=system.shop.channel,
        topic=topics.INVOCATION_REQUESTS.name,
    )
    return began


async def spread(publisher: Publisher, receiver: Receiver, systems: list[System], each: int) -> Spread:
    """Asks every system ``each`` times, and waits for all those calls."""
    for system in systems:
        receiver.calls[system.path].clear()
    asked = [(one, number, await ask(publisher, one, number)) for number in range(each) for one in systems]
    for system in systems:
        await receiver.wait_for(system.path, each, timeout=45)
    came = {(one.path, call.json["data"]["number"]): call.at for one in systems for call in receiver.calls[one.path]}
    took = sorted(came[one.path, number] - began for one, number, began in asked)
    return Spread(took[len(took) // 2], took[int(len(took) * 0.99)])


async def opened(shop: Customer, receiver: Receiver, count: int, prefix: str) -> list[System]:
    systems = [System(shop, f"s{number}", f"{prefix}-{number}") for number in range(count)]
    for system in systems:
        await shop.open(system.name, receiver.url(system.path))
    return systems


async def measure(
    installation: Installation, receiver: Receiver, channels: int, each: int
) -> tuple[Spread, Spread, int]:
    """The healthy ones' spread without and with the bad ones beside them, and how many bad calls hang at the end."""
    hanging = 0

    async def hang(call: Call) -> web.StreamResponse:
        nonlocal hanging
        hanging += 1
        try:
            return await black_hole(call)
        finally:
            hanging -= 1

    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(installation.publisher(ACCOUNT))
        shops = [await stack.enter_async_context(customer(installation)) for _ in range(channels)]
        made = [opened(shop, receiver, SYSTEMS_A_CHANNEL, f"healthy-{place}") for place, shop in enumerate(shops)]
        healthy = [one for some in await asyncio.gather(*made) for one in some]
        shop = await stack.enter_async_context(customer(installation))
        bad = await opened(shop, receiver, 2, "bad")
        receiver.on(bad[0].path, hang)
        receiver.on(bad[1].path, slow)
        without = await spread(publisher, receiver, healthy, each)
        for number in range(TO_THE_BAD):
            for one in bad:
                await ask(publisher, one, number)
        await receiver.wait_for(bad[0].path, 1)
        beside = await spread(publisher, receiver, healthy, each)
        return without, beside, hanging


async def test_a_black_hole_and_a_slow_one_cost_only_themselves(
    installation: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Receiver(installation.receiver_port()) as receiver:
        without, beside, hanging = await measure(installation, receiver, CHANNELS, REQUESTS_EACH)
    assert hanging > 0
    with capsys.disabled():
        print(  # noqa: T201 -- for whoever reads a run's output
            f"\nhealthy systems, p50 and p99 in ms: alone {without.p50 * 1e3:.0f} and {without.p99 * 1e3:.0f}, "
            f"beside a black hole and a slow one {beside.p50 * 1e3:.0f} and {beside.p99 * 1e3:.0f}"
        )

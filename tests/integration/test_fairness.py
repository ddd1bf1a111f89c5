"""A receiver that hangs and one that is slow delay no other."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
from aiohttp import web

from contracts import topics
from contracts.invocation import InvokeIntent
from contracts.kafka.publisher import Publisher
from tests.customer import ACCOUNT, CODE, Customer, customer
from tests.installation import Installation
from tests.receivers import Call, Receiver, black_hole

CHANNELS = 2
SYSTEMS_PER_CHANNEL = 7
REQUESTS_PER_SYSTEM = 10
REQUESTS_TO_BAD = 60


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds from the publication of a request to its call."""

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


async def publish_request(publisher: Publisher, system: System, number: int) -> float:
    """Publishes a request for a call; returns when."""
    began = time.monotonic()
    await publisher.publish(
        InvokeIntent(system=system.name, code=CODE, data={"number": number}),
        channel=system.shop.channel,
        topic=topics.INVOCATION_REQUESTS.name,
    )
    return began


async def measure_latency(publisher: Publisher, receiver: Receiver, systems: list[System], each: int) -> Latency:
    """Publishes ``each`` requests for every system, and waits for all their calls."""
    for system in systems:
        receiver.calls[system.path].clear()
    published = [
        (system, number, await publish_request(publisher, system, number))
        for number in range(each)
        for system in systems
    ]
    for system in systems:
        await receiver.wait_for(system.path, each, timeout=45)
    called_at = {
        (system.path, call.json["data"]["number"]): call.at
        for system in systems
        for call in receiver.calls[system.path]
    }
    latencies = sorted(called_at[system.path, number] - began for system, number, began in published)
    return Latency(latencies[len(latencies) // 2], latencies[int(len(latencies) * 0.99)])


async def open_systems(shop: Customer, receiver: Receiver, count: int, prefix: str) -> list[System]:
    systems = [System(shop, f"s{number}", f"{prefix}-{number}") for number in range(count)]
    for system in systems:
        await shop.open(system.name, receiver.url(system.path))
    return systems


async def measure(
    installation: Installation, receiver: Receiver, channels: int, each: int
) -> tuple[Latency, Latency, int]:
    """Latency of healthy systems alone and beside bad ones, and how many calls hang at the end."""
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
        opening = [
            open_systems(shop, receiver, SYSTEMS_PER_CHANNEL, f"healthy-{number}") for number, shop in enumerate(shops)
        ]
        healthy = [system for systems in await asyncio.gather(*opening) for system in systems]
        shop = await stack.enter_async_context(customer(installation))
        bad = await open_systems(shop, receiver, 2, "bad")
        receiver.on(bad[0].path, hang)
        receiver.on(bad[1].path, slow)
        without = await measure_latency(publisher, receiver, healthy, each)
        for number in range(REQUESTS_TO_BAD):
            for system in bad:
                await publish_request(publisher, system, number)
        await receiver.wait_for(bad[0].path, 1)
        beside = await measure_latency(publisher, receiver, healthy, each)
        return without, beside, hanging


async def test_a_hanging_and_a_slow_receiver_delay_no_other(
    installation: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Receiver(installation.receiver_port()) as receiver:
        without, beside, hanging = await measure(installation, receiver, CHANNELS, REQUESTS_PER_SYSTEM)
    assert hanging > 0
    with capsys.disabled():
        print(  # noqa: T201 -- a measurement for the run's output
            f"\nhealthy systems, p50 and p99 in ms: alone {without.p50 * 1e3:.0f} and {without.p99 * 1e3:.0f}, "
            f"beside a hanging and a slow one {beside.p50 * 1e3:.0f} and {beside.p99 * 1e3:.0f}"
        )

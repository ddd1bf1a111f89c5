"""`gateway`: commands over HTTP, each with its answer, beside an endpoint that only puts its body through Kafka."""

from __future__ import annotations

import asyncio
import time

import aiohttp

from services.gateway.authentication import api_keys
from services.gateway.authentication.roles import Scope
from services.infrastructure.config import Settings
from services.infrastructure.embedded.process import free_port
from services.infrastructure.postgres import migrate, pool_of
from tests.bench.load_driver import ACCOUNT, channel_name, load_driver, registrations
from tests.bench.report import Result, ratio_of, rounded_median
from tests.bench.testbed import Testbed
from tests.bench.topic_pairs import OUR_TOPICS, create_bare_topics

_CONCURRENCY = 16


async def run(testbed: Testbed) -> list[Result]:
    count = testbed.scaled(2_000)
    servers, partitions = testbed.bootstrap_servers, testbed.partitions
    await create_bare_topics(servers, "bare", partitions)
    ours_port, bare_port = free_port(), free_port()
    more = {"SWITCHBOARD_DATABASE_URL": testbed.dsn, "SWITCHBOARD_HTTP_PORT": str(ours_port)}
    more |= {f"SWITCHBOARD_HTTP_REQUESTS_PER_{one}": "1000000" for one in ("KEY", "ACCOUNT")}
    rates: dict[str, list[float]] = {"ours": [], "bare": []}
    with (
        testbed.service("decider"),
        testbed.service("projector", **more),
        testbed.service("gateway", **more),
        testbed.script("bare_loop", "send", servers, "bare", str(partitions)),
        testbed.script(
            "bare_server", "commands", servers, "bare.outcomes", str(partitions), str(bare_port), "bare.commands"
        ),
    ):
        async with load_driver(servers, partitions) as driver:
            await driver.seconds_to_process(OUR_TOPICS, registrations(range(count)))
        headers = {"Authorization": f"Bearer {await api_key(testbed, more)}"}
        ports = {"ours": ours_port, "bare": bare_port}
        async with aiohttp.ClientSession(headers=headers) as session:
            for turn in range(4):
                for name, port in ports.items():
                    rate = await _round_trips(session, port, count, enabled=turn % 2 == 0)
                    if turn:
                        rates[name].append(rate)
    return [
        Result(
            "gateway",
            "requests/s",
            ours=rounded_median(rates["ours"]),
            limit=rounded_median(rates["bare"]),
            limit_is="bare FastAPI endpoint through a bare Kafka loop",
            ratio=ratio_of(rates["ours"], rates["bare"]),
            details={"requests a round": count, "at once": _CONCURRENCY},
        )
    ]


async def api_key(testbed: Testbed, more: dict[str, str]) -> str:
    pool = await pool_of(Settings.from_environment(testbed.environment() | more), size=1)
    try:
        await migrate(pool, "gateway", api_keys.MIGRATIONS)
        return await api_keys.create(pool, scope=Scope(ACCOUNT), label="bench")
    finally:
        await pool.close()


async def _round_trips(session: aiohttp.ClientSession, port: int, count: int, *, enabled: bool) -> float:
    """Requests a second, each to a channel of its own."""
    numbers = iter(range(count))

    async def client() -> None:
        for number in numbers:
            address = f"http://127.0.0.1:{port}/v1/channels/{channel_name(number)}/sms"
            async with session.put(address, json={"enabled": enabled}) as response:
                if response.status != 200:
                    raise RuntimeError(f"{address} answered {response.status}: {await response.text()}")
                await response.read()

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(_CONCURRENCY)))
    return count / (time.perf_counter() - started)

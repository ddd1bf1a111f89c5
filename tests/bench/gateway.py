"""`gateway`: commands over HTTP, each with its answer, beside an endpoint that only puts its body through Kafka."""

from __future__ import annotations

import asyncio
import time

import aiohttp

from services.gateway import api_keys
from services.infrastructure.embedded.process import free_port
from services.infrastructure.postgres import migrate, pool_of
from services.infrastructure.settings import Settings
from tests.bench.lanes import OURS, make_bare_lane
from tests.bench.report import Result, middle, ratio_of
from tests.bench.surroundings import Surroundings
from tests.bench.traffic import ACCOUNT, channel_name, registrations, track

_AT_ONCE = 16


async def run(place: Surroundings) -> list[Result]:
    count = place.scaled(2_000)
    servers, partitions = place.bootstrap_servers, place.partitions
    await make_bare_lane(servers, "bare", partitions)
    ours_port, bare_port = free_port(), free_port()
    more = {"SWITCHBOARD_DATABASE_URL": place.dsn, "SWITCHBOARD_HTTP_PORT": str(ours_port)}
    rates: dict[str, list[float]] = {"ours": [], "bare": []}
    with (
        place.service("decider"),
        place.service("projector", **more),
        place.service("gateway", **more),
        place.script("bare_loop", "send", servers, "bare", str(partitions)),
        place.script("bare_gateway", servers, "bare", str(partitions), str(bare_port)),
    ):
        async with track(servers, partitions) as running:
            await running.race(OURS, registrations(range(count)))
        headers = {"Authorization": f"Bearer {await api_key(place, more)}"}
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
            ours=middle(rates["ours"]),
            limit=middle(rates["bare"]),
            limit_is="bare FastAPI endpoint through a bare Kafka loop",
            ratio=ratio_of(rates["ours"], rates["bare"]),
            details={"requests a round": count, "at once": _AT_ONCE},
        )
    ]


async def api_key(place: Surroundings, more: dict[str, str]) -> str:
    pool = await pool_of(Settings.from_environment(place.environment() | more), size=1)
    try:
        await migrate(pool, "gateway", api_keys.MIGRATIONS)
        return await api_keys.create(pool, role="account", account=ACCOUNT, label="bench")
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

    begun = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(_AT_ONCE)))
    return count / (time.perf_counter() - begun)

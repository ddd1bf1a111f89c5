"""`invoker`: signed calls a second, from requests on Kafka to outcomes on Kafka, beside a bare loop that only posts."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import Any

from contracts import topics
from services.infrastructure.embedded.process import free_port
from tests.bench.bare_caller import addresses
from tests.bench.lanes import OURS
from tests.bench.queue_claims import claim_rates
from tests.bench.report import Result, middle, ratio_of
from tests.bench.surroundings import Surroundings
from tests.bench.traffic import Lane, Track, channel_name, command, track

_SYSTEMS_A_CHANNEL = 10
_HOSTS = 200
_AT_ONCE = 200
_LOOK_EVERY_S = 0.02
_CODE = "ORDER_STATUS"
_CALLS = Lane(topics.INVOCATION_REQUESTS.name, topics.INVOCATIONS.name)


async def run(place: Surroundings) -> list[Result]:
    count, hosts = place.scaled(10_000), place.scaled(_HOSTS)
    port = free_port()
    urls = addresses(port, hosts)
    more = {
        "SWITCHBOARD_DATABASE_URL": place.dsn,
        "SWITCHBOARD_INVOKER_ALLOW": f"127.0.0.0/8:{port}",
        "SWITCHBOARD_HTTP_PORT": str(free_port()),
    }
    with place.script("bare_receiver", str(port)), place.service("decider", **more):
        async with track(place.bootstrap_servers, place.partitions) as running:
            await running.race(OURS, _settings(urls))
            with place.service("invoker", **more) as invoker:
                one = await _rounds(place, running, port, hosts, count)
                resident = invoker.resident_bytes()
                with place.service("invoker", **more):
                    two = await _rounds(place, running, port, hosts, count)
    return [
        Result(
            "invoker",
            "calls/s",
            ours=middle(one["ours"]),
            limit=middle(one["bare"]),
            limit_is="bare aiohttp loop that posts as many, and keeps nothing",
            ratio=ratio_of(one["ours"], one["bare"]),
            details={
                "calls a turn": count,
                "hosts": hosts,
                "rounds": {name: [round(rate) for rate in found] for name, found in one.items()},
                "two invokers": f"{middle(two['ours']):,.0f}/s",
                "two invokers, ratio to one bare loop": ratio_of(two["ours"], two["bare"]),
                "resident MB": round(resident / 1e6),
                **await claim_rates(place),
            },
        )
    ]


async def _rounds(place: Surroundings, running: Track, port: int, hosts: int, count: int) -> dict[str, list[float]]:
    """Calls a second of ours and of the bare loop, turn about; the first turn warms both up."""
    rates: dict[str, list[float]] = {"ours": [], "bare": []}
    for turn in range(place.rounds + 1):
        found = {
            "ours": count / await running.race(_CALLS, requests(count, hosts), _LOOK_EVERY_S),
            "bare": await _bare(place, port, hosts, count),
        }
        place.say(f"turn {turn}: " + ", ".join(f"{name} {rate:,.0f}/s" for name, rate in found.items()))
        for name, rate in found.items():
            rates[name] += [rate] * (turn > 0)
    return rates


def _settings(urls: list[str]) -> Iterator[tuple[str, bytes]]:
    """Channels with ten systems each, every one with an intent."""
    for number, url in enumerate(urls):
        channel, system = channel_name(number // _SYSTEMS_A_CHANNEL), _system(number)
        if number % _SYSTEMS_A_CHANNEL == 0:
            form = {"channel_type": "whatsapp", "name": channel, "enterprise_authenticated": True}
            yield command("RegisterChannel", channel, form)
        yield command("OpenBusinessSystem", channel, {"system": system, "name": system, "api_request_url": url})
        yield command(
            "AddIntent", channel, {"system": system, "code": _CODE, "name": "Order status", "default_data": {}}
        )


def _system(number: int) -> str:
    return f"crm-{number % _SYSTEMS_A_CHANNEL}"


def requests(count: int, hosts: int) -> Iterator[tuple[str, bytes]]:
    """Calls of 1 KB, to every host in turn."""
    for number in range(count):
        host = number % hosts
        data = {"order": str(number), "text": "x" * 1000}
        yield command(
            "InvokeIntent",
            channel_name(host // _SYSTEMS_A_CHANNEL),
            {"system": _system(host), "code": _CODE, "data": data},
        )


async def _bare(place: Surroundings, port: int, hosts: int, count: int) -> float:
    """In a process of its own, as the invoker is."""
    arguments: list[Any] = [sys.executable, "-m", "tests.bench.bare_caller", port, hosts, _AT_ONCE, count]
    process = await asyncio.create_subprocess_exec(
        *map(str, arguments), env=place.environment(), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError("the bare loop failed")
    return float(output)

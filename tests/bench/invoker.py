"""`invoker`: signed calls a second, from requests on Kafka to outcomes on Kafka, beside a bare loop that only posts."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import Any

from contracts import topics
from services.infrastructure.embedded.process import free_port
from tests.bench.bare_caller import addresses
from tests.bench.load_driver import LoadDriver, TopicPair, channel_name, command, load_driver
from tests.bench.queue_claims import claim_rates
from tests.bench.report import Result, ratio_of, rounded_median
from tests.bench.testbed import Testbed
from tests.bench.topic_pairs import OUR_TOPICS

_SYSTEMS_A_CHANNEL = 10
_HOSTS = 200
_CONCURRENCY = 200
_POLL_INTERVAL_S = 0.02
_CODE = "ORDER_STATUS"
_CALLS = TopicPair(topics.INVOCATION_REQUESTS.name, topics.INVOCATIONS.name)


async def run(testbed: Testbed) -> list[Result]:
    count, hosts = testbed.scaled(10_000), testbed.scaled(_HOSTS)
    port = free_port()
    urls = addresses(port, hosts)
    more = {
        "SWITCHBOARD_DATABASE_URL": testbed.dsn,
        "SWITCHBOARD_INVOKER_ALLOW": f"127.0.0.0/8:{port}",
        "SWITCHBOARD_INVOKER_CALLS_PER_HOST": "1000000",
        "SWITCHBOARD_HTTP_PORT": str(free_port()),
    }
    with testbed.script("bare_receiver", str(port)), testbed.service("decider", **more):
        async with load_driver(testbed.bootstrap_servers, testbed.partitions) as driver:
            await driver.seconds_to_process(OUR_TOPICS, _settings(urls))
            with testbed.service("invoker", **more) as invoker:
                one = await _rounds(testbed, driver, port, hosts, count)
                resident = invoker.resident_bytes()
                with testbed.service("invoker", **more):
                    two = await _rounds(testbed, driver, port, hosts, count)
    return [
        Result(
            "invoker",
            "calls/s",
            ours=rounded_median(one["ours"]),
            limit=rounded_median(one["bare"]),
            limit_is="bare aiohttp loop that posts as many, and keeps nothing",
            ratio=ratio_of(one["ours"], one["bare"]),
            details={
                "calls a turn": count,
                "hosts": hosts,
                "rounds": {name: [round(rate) for rate in found] for name, found in one.items()},
                "two invokers": f"{rounded_median(two['ours']):,.0f}/s",
                "two invokers, ratio to one bare loop": ratio_of(two["ours"], two["bare"]),
                "resident MB": round(resident / 1e6),
                **await claim_rates(testbed),
            },
        )
    ]


async def _rounds(testbed: Testbed, driver: LoadDriver, port: int, hosts: int, count: int) -> dict[str, list[float]]:
    """Calls a second of ours and of the bare loop, turn about; the first turn warms both up."""
    rates: dict[str, list[float]] = {"ours": [], "bare": []}
    for turn in range(testbed.rounds + 1):
        found = {
            "ours": count / await driver.seconds_to_process(_CALLS, requests(count, hosts), _POLL_INTERVAL_S),
            "bare": await _bare(testbed, port, hosts, count),
        }
        testbed.log(f"turn {turn}: " + ", ".join(f"{name} {rate:,.0f}/s" for name, rate in found.items()))
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


async def _bare(testbed: Testbed, port: int, hosts: int, count: int) -> float:
    """In a process of its own, as the invoker is."""
    arguments: list[Any] = [sys.executable, "-m", "tests.bench.bare_caller", port, hosts, _CONCURRENCY, count]
    process = await asyncio.create_subprocess_exec(
        *map(str, arguments), env=testbed.environment(), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError("the bare loop failed")
    return float(output)

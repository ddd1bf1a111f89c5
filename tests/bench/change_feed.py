"""`change-feed`: events a second to 1, 100 and 1,000 readers of server-sent events, and how late they come, beside a
bare endpoint that sends the same records to everybody."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from statistics import quantiles
from typing import Any

from aiokafka import AIOKafkaProducer

from contracts import topics
from contracts.envelope import CONTENT_TYPE
from services.infrastructure.embedded.process import free_port
from tests.bench.event_log import EventLog
from tests.bench.gateway import api_key
from tests.bench.report import Result, ratio_of, rounded_median
from tests.bench.sse_readers import Audience, audience
from tests.bench.testbed import Testbed
from tests.bench.topic_pairs import create_bare_topics

_BURSTS = {1: 5_000, 100: 1_000, 1_000: 200}
"""Readers -> events that become visible at once."""

_SINGLE_EVENTS = 100
_PAUSE_S = 0.1
"""The delay is that of so many events, one after the other."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """A server to measure: its topic and its port."""

    events: EventLog
    port: int


async def run(testbed: Testbed) -> list[Result]:
    servers, partitions = testbed.bootstrap_servers, testbed.partitions
    await create_bare_topics(servers, "bare", partitions)
    contestants = {
        name: Contestant(EventLog(servers, topic, partitions), free_port())
        for name, topic in (("ours", topics.EVENTS.name), ("bare", "bare.events"))
    }
    more = {"SWITCHBOARD_DATABASE_URL": testbed.dsn, "SWITCHBOARD_HTTP_PORT": str(contestants["ours"].port)}
    bare = ("bare_server", "changes", servers, "bare.events", str(partitions), str(contestants["bare"].port))
    rates: dict[tuple[int, str], list[float]] = {}
    delays: dict[str, list[float]] = {"ours": [], "bare": []}
    with testbed.service("gateway", **more), testbed.script(*bare):
        authorization = f"Authorization: Bearer {await api_key(testbed, more)}"
        for readers, most in _BURSTS.items():
            for turn in range(4):
                for name, contestant in contestants.items():
                    async with audience(
                        contestant.port, testbed.scaled(readers, 1), "/v1/changes", authorization
                    ) as connected:
                        rate = await _burst(contestant, connected, testbed.scaled(most))
                        if turn:
                            rates.setdefault((readers, name), []).append(rate)
                            if readers == max(_BURSTS):
                                delays[name].append(await _single_event_delay(testbed, contestant, connected))
            testbed.log(
                f"{readers:,} readers: "
                + ", ".join(f"{name} {rounded_median(rates[readers, name]):,.0f}/s" for name in contestants)
            )
    return [_result(rates, delays)]


def _result(rates: dict[tuple[int, str], list[float]], delays: dict[str, list[float]]) -> Result:
    most = max(_BURSTS)
    details: dict[str, Any] = {
        f"events/s to {readers:,} readers": {
            "ours": rounded_median(rates[readers, "ours"]),
            "bare": rounded_median(rates[readers, "bare"]),
            "ratio": ratio_of(rates[readers, "ours"], rates[readers, "bare"]),
        }
        for readers in _BURSTS
    }
    details[f"p99 delay, ms, {most:,} readers, {1 / _PAUSE_S:g} events/s"] = {
        name: rounded_median(1_000 * one for one in found) for name, found in delays.items()
    }
    return Result(
        "change-feed",
        f"events/s to {most:,} readers",
        ours=rounded_median(rates[most, "ours"]),
        limit=rounded_median(rates[most, "bare"]),
        limit_is="bare FastAPI endpoint that sends the same records to everybody",
        ratio=ratio_of(rates[most, "ours"], rates[most, "bare"]),
        details=details,
    )


async def _burst(contestant: Contestant, connected: Audience, count: int) -> float:
    """Events a second, from when all of them became visible until every reader had every one."""
    connected.expect(count)
    started = await contestant.events.append(contestant.events.changes(range(count), 0))
    async with asyncio.timeout(120):
        await connected.all_there.wait()
    return count / (time.perf_counter() - started)


async def _single_event_delay(testbed: Testbed, contestant: Contestant, connected: Audience) -> float:
    """Seconds, p99, from when an event is given to Kafka until a reader has it; of all events to all readers."""
    count = testbed.scaled(_SINGLE_EVENTS)
    connected.expect(count)
    async with AIOKafkaProducer(bootstrap_servers=testbed.bootstrap_servers, acks="all") as producer:
        for turn in range(count):
            [(partition, _, value)] = contestant.events.changes(range(1), turn)
            connected.sending()
            await producer.send_and_wait(contestant.events.topic, value, partition=partition, headers=[CONTENT_TYPE])
            await asyncio.sleep(_PAUSE_S)
        async with asyncio.timeout(60):
            await connected.all_there.wait()
    return quantiles(connected.delays, n=100, method="inclusive")[98]

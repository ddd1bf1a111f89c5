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
from tests.bench.lanes import make_bare_lane
from tests.bench.report import Result, middle, ratio_of
from tests.bench.sse_readers import Audience, audience
from tests.bench.surroundings import Surroundings

_BURSTS = {1: 5_000, 100: 1_000, 1_000: 200}
"""Readers -> events that become visible at once."""

_GENTLE = 100
_PAUSE_S = 0.1
"""The delay is that of so many events, one after the other."""


@dataclass(frozen=True, slots=True)
class Line:
    """A contestant: its topic, and its port."""

    events: EventLog
    port: int


async def run(place: Surroundings) -> list[Result]:
    servers, partitions = place.bootstrap_servers, place.partitions
    await make_bare_lane(servers, "bare", partitions)
    lines = {
        name: Line(EventLog(servers, topic, partitions), free_port())
        for name, topic in (("ours", topics.EVENTS.name), ("bare", "bare.events"))
    }
    more = {"SWITCHBOARD_DATABASE_URL": place.dsn, "SWITCHBOARD_HTTP_PORT": str(lines["ours"].port)}
    bare = ("bare_sse", servers, "bare.events", str(partitions), str(lines["bare"].port))
    rates: dict[tuple[int, str], list[float]] = {}
    delays: dict[str, list[float]] = {"ours": [], "bare": []}
    with place.service("gateway", **more), place.script(*bare):
        token = await api_key(place, more)
        for readers, most in _BURSTS.items():
            for turn in range(4):
                for name, line in lines.items():
                    async with audience(line.port, place.scaled(readers, 1), token) as there:
                        rate = await _burst(line, there, place.scaled(most))
                        if turn:
                            rates.setdefault((readers, name), []).append(rate)
                            if readers == max(_BURSTS):
                                delays[name].append(await _gently(place, line, there))
            place.say(
                f"{readers:,} readers: " + ", ".join(f"{name} {middle(rates[readers, name]):,.0f}/s" for name in lines)
            )
    return [_result(rates, delays)]


def _result(rates: dict[tuple[int, str], list[float]], delays: dict[str, list[float]]) -> Result:
    most = max(_BURSTS)
    details: dict[str, Any] = {
        f"events/s to {readers:,} readers": {
            "ours": middle(rates[readers, "ours"]),
            "bare": middle(rates[readers, "bare"]),
            "ratio": ratio_of(rates[readers, "ours"], rates[readers, "bare"]),
        }
        for readers in _BURSTS
    }
    details[f"p99 delay, ms, {most:,} readers, {1 / _PAUSE_S:g} events/s"] = {
        name: middle(1_000 * one for one in found) for name, found in delays.items()
    }
    return Result(
        "change-feed",
        f"events/s to {most:,} readers",
        ours=middle(rates[most, "ours"]),
        limit=middle(rates[most, "bare"]),
        limit_is="bare FastAPI endpoint that sends the same records to everybody",
        ratio=ratio_of(rates[most, "ours"], rates[most, "bare"]),
        details=details,
    )


async def _burst(line: Line, there: Audience, count: int) -> float:
    """Events a second, from when all of them became visible until every reader had every one."""
    there.expect(count)
    begun = await line.events.append(line.events.changes(range(count), 0))
    async with asyncio.timeout(120):
        await there.all_there.wait()
    return count / (time.perf_counter() - begun)


async def _gently(place: Surroundings, line: Line, there: Audience) -> float:
    """Seconds, p99, from when an event is given to Kafka until a reader has it; of all events to all readers."""
    count = place.scaled(_GENTLE)
    there.expect(count)
    async with AIOKafkaProducer(bootstrap_servers=place.bootstrap_servers, acks="all") as producer:
        for turn in range(count):
            [(partition, _, value)] = line.events.changes(range(1), turn)
            there.sending()
            await producer.send_and_wait(line.events.topic, value, partition=partition, headers=[CONTENT_TYPE])
            await asyncio.sleep(_PAUSE_S)
        async with asyncio.timeout(60):
            await there.all_there.wait()
    return quantiles(there.delays, n=100, method="inclusive")[98]

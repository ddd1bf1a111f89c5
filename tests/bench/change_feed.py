"""`change-feed`: events a second to 1, 100 and 1,000 readers of server-sent events, and how late they come, beside a
bare endpoint that sends the same records to everybody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Any

from aiokafka import AIOKafkaProducer
from pydantic_core import to_json

from contracts import topics
from contracts.envelope import CONTENT_TYPE
from contracts.ids import new_id
from contracts.message import rfc3339
from services.infrastructure.embedded.process import free_port
from tests.bench.gateway import api_key
from tests.bench.lanes import make_bare_lane
from tests.bench.report import Result, middle, ratio_of
from tests.bench.sse_readers import Audience, audience
from tests.bench.surroundings import Surroundings
from tests.bench.traffic import ACCOUNT, channel_name

_BURSTS = {1: 5_000, 100: 1_000, 1_000: 200}
"""Readers -> events that become visible at once."""

_GENTLE = 100
_PAUSE_S = 0.1
"""The delay is that of so many events, one after the other."""


@dataclass
class Line:
    """A contestant: its topic, its port, and how far each partition has been written."""

    topic: str
    port: int
    written: dict[int, int] = field(default_factory=dict)

    def event(self, partition: int) -> bytes:
        """An event as the decider writes it, the next of its partition."""
        number = self.written[partition] = self.written.get(partition, 0) + 1
        command = new_id()
        envelope: dict[str, Any] = {
            "specversion": "1.0",
            "id": new_id(),
            "type": "SmsActivated" if number % 2 else "SmsDeactivated",
            "source": "switchboard",
            "subject": channel_name(partition),
            "time": rfc3339(time.time_ns() // 1_000_000),
            "accountid": ACCOUNT,
            "actor": "bench@example.com",
            "datacontenttype": "application/json",
            "data": {},
            "sequence": number,
            "partitionsequence": number,
            "previoushash": "0" * 64,
            "resource": "sms",
            "causationid": command,
            "correlationid": command,
        }
        return to_json(envelope)


async def run(place: Surroundings) -> list[Result]:
    servers, partitions = place.bootstrap_servers, place.partitions
    await make_bare_lane(servers, "bare", partitions)
    lines = {"ours": Line(topics.EVENTS.name, free_port()), "bare": Line("bare.events", free_port())}
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
                        rate = await _burst(place, line, there, place.scaled(most))
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


async def _burst(place: Surroundings, line: Line, there: Audience, count: int) -> float:
    """Events a second, from when all of them became visible until every reader had every one."""
    producer = AIOKafkaProducer(
        bootstrap_servers=place.bootstrap_servers, transactional_id=new_id(), max_batch_size=900_000
    )
    await producer.start()
    try:
        there.expect(count)
        await producer.begin_transaction()
        for partition, events in _shares(line, place.partitions, count):
            batch = producer.create_batch()
            for value in events:
                fields = {"key": channel_name(partition).encode(), "value": value, "headers": [CONTENT_TYPE]}
                if batch.append(**fields, timestamp=None) is None:
                    await (await producer.send_batch(batch, line.topic, partition=partition))
                    batch = producer.create_batch()
                    batch.append(**fields, timestamp=None)
            await (await producer.send_batch(batch, line.topic, partition=partition))
        begun = time.perf_counter()
        await producer.commit_transaction()
        async with asyncio.timeout(120):
            await there.all_there.wait()
        return count / (time.perf_counter() - begun)
    finally:
        await producer.stop()


def _shares(line: Line, partitions: int, count: int) -> Iterator[tuple[int, Iterator[bytes]]]:
    for partition in range(min(partitions, count)):
        yield partition, (line.event(partition) for _ in range(partition, count, partitions))


async def _gently(place: Surroundings, line: Line, there: Audience) -> float:
    """Seconds, p99, from when an event is given to Kafka until a reader has it; of all events to all readers."""
    count = place.scaled(_GENTLE)
    async with AIOKafkaProducer(bootstrap_servers=place.bootstrap_servers, acks="all") as producer:
        there.expect(count)
        for _ in range(count):
            there.sending()
            await producer.send_and_wait(line.topic, line.event(0), partition=0, headers=[CONTENT_TYPE])
            await asyncio.sleep(_PAUSE_S)
        async with asyncio.timeout(60):
            await there.all_there.wait()
    return quantiles(there.delays, n=100, method="inclusive")[98]

"""`publisher`: commands a second through `contracts.publisher`, beside a bare idempotent producer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer

from contracts.publisher import Publisher
from contracts.sms import ToggleSms
from tests.bench.lanes import OURS
from tests.bench.report import Result, middle, ratio_of
from tests.bench.surroundings import Surroundings
from tests.bench.traffic import ACCOUNT, changes, channel_name, registrations, track

_AT_ONCE = 1_000


async def run(place: Surroundings) -> list[Result]:
    servers = place.bootstrap_servers
    count = place.scaled(10_000)
    channels = range(count)
    published: dict[str, list[float]] = {"ours": [], "bare": []}
    answered: list[float] = []
    bare = AIOKafkaProducer(bootstrap_servers=servers, enable_idempotence=True)
    await bare.start()
    try:
        async with Publisher(servers, source="bench", account=ACCOUNT, actor="bench@example.com") as ours:
            for turn in range(place.rounds + 1):
                rates = {"ours": await _publish(ours, count), "bare": await _send(bare, list(changes(channels, turn)))}
                if turn:
                    for name, rate in rates.items():
                        published[name].append(rate)
            with place.service("decider"):
                async with track(servers, place.partitions) as running:
                    await running.race(OURS, registrations(channels))
                for turn in range(3):
                    commands = [(channel_name(one), ToggleSms(enabled=turn % 2 == 0)) for one in channels]
                    begun = time.perf_counter()
                    await ours.send_many(commands, at_once=_AT_ONCE)
                    answered.append(count / (time.perf_counter() - begun))
    finally:
        await bare.stop()
    return [
        Result(
            "publisher",
            "commands/s",
            ours=middle(published["ours"]),
            limit=middle(published["bare"]),
            limit_is="bare idempotent aiokafka producer, values made before",
            ratio=ratio_of(published["ours"], published["bare"]),
            details={
                "commands": count,
                "send_many, each with its outcome": f"{middle(answered):,.0f}/s, {_AT_ONCE:,} in flight",
                "rounds": {name: [round(rate) for rate in found] for name, found in published.items()},
            },
        )
    ]


async def _publish(publisher: Publisher, count: int) -> float:
    """Commands a second, from the objects to the broker's answer, without waiting for outcomes."""
    begun = time.perf_counter()
    commands = ((channel_name(number), ToggleSms(enabled=True)) for number in range(count))
    await publisher.publish_many(commands, at_once=_AT_ONCE)
    return count / (time.perf_counter() - begun)


async def _send(producer: AIOKafkaProducer, commands: Sequence[tuple[str, bytes]]) -> float:
    begun = time.perf_counter()
    sends = [await producer.send(OURS.commands, value, key=channel.encode()) for channel, value in commands]
    await asyncio.gather(*sends)
    return len(commands) / (time.perf_counter() - begun)

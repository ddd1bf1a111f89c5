"""`publisher`: commands a second through `contracts.kafka.publisher`, beside a bare idempotent producer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer

from contracts.kafka.publisher import Publisher
from contracts.sms import ToggleSms
from tests.bench.load_driver import ACCOUNT, changes, channel_name, load_driver, registrations
from tests.bench.report import Result, ratio_of, rounded_median
from tests.bench.testbed import Testbed
from tests.bench.topic_pairs import OUR_TOPICS

_CONCURRENCY = 1_000


async def run(testbed: Testbed) -> list[Result]:
    servers = testbed.bootstrap_servers
    count = testbed.scaled(10_000)
    channels = range(count)
    published: dict[str, list[float]] = {"ours": [], "bare": []}
    answered: list[float] = []
    bare = AIOKafkaProducer(bootstrap_servers=servers, enable_idempotence=True)
    await bare.start()
    try:
        async with Publisher(servers, source="bench", account=ACCOUNT, actor="bench@example.com") as ours:
            for turn in range(testbed.rounds + 1):
                rates = {"ours": await _publish(ours, count), "bare": await _send(bare, list(changes(channels, turn)))}
                if turn:
                    for name, rate in rates.items():
                        published[name].append(rate)
            with testbed.service("decider"):
                async with load_driver(servers, testbed.partitions) as driver:
                    await driver.seconds_to_process(OUR_TOPICS, registrations(channels))
                for turn in range(3):
                    commands = [(channel_name(one), ToggleSms(enabled=turn % 2 == 0)) for one in channels]
                    started = time.perf_counter()
                    await ours.send_many(commands, at_once=_CONCURRENCY)
                    answered.append(count / (time.perf_counter() - started))
    finally:
        await bare.stop()
    return [
        Result(
            "publisher",
            "commands/s",
            ours=rounded_median(published["ours"]),
            limit=rounded_median(published["bare"]),
            limit_is="bare idempotent aiokafka producer, values made before",
            ratio=ratio_of(published["ours"], published["bare"]),
            details={
                "commands": count,
                "send_many, each with its outcome": f"{rounded_median(answered):,.0f}/s, {_CONCURRENCY:,} in flight",
                "rounds": {name: [round(rate) for rate in found] for name, found in published.items()},
            },
        )
    ]


async def _publish(publisher: Publisher, count: int) -> float:
    """Commands a second, from the objects to the broker's answer, without waiting for outcomes."""
    started = time.perf_counter()
    commands = ((channel_name(number), ToggleSms(enabled=True)) for number in range(count))
    await publisher.publish_many(commands, at_once=_CONCURRENCY)
    return count / (time.perf_counter() - started)


async def _send(producer: AIOKafkaProducer, commands: Sequence[tuple[str, bytes]]) -> float:
    started = time.perf_counter()
    sends = [await producer.send(OUR_TOPICS.commands, value, key=channel.encode()) for channel, value in commands]
    await asyncio.gather(*sends)
    return len(commands) / (time.perf_counter() - started)

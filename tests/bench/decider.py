"""`decider`: commands a second through the real decider, beside bare loops that decide nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from statistics import median
from typing import Any

from contracts.partitioner import partition_of
from tests.bench import eventsourcing_peer
from tests.bench.load_driver import LoadDriver, TopicPair, changes, channel_name, load_driver, registrations
from tests.bench.report import Result, ratio_of, rounded_median
from tests.bench.testbed import Contestant, Testbed
from tests.bench.topic_pairs import OUR_TOPICS, create_bare_topics

WAITING = 10_000


async def run(testbed: Testbed) -> list[Result]:
    waiting = testbed.scaled(WAITING)
    channels = range(waiting)
    servers, partitions = testbed.bootstrap_servers, testbed.partitions
    topic_pairs = {
        "ours": OUR_TOPICS,
        "send": await create_bare_topics(servers, "bare-send", partitions),
        "batches": await create_bare_topics(servers, "bare-batches", partitions),
    }
    peer = await create_bare_topics(servers, "peer", partitions)
    with (
        testbed.service("decider") as decider,
        testbed.script("bare_loop", "send", servers, "bare-send", str(partitions)) as send,
        testbed.script("bare_loop", "batches", servers, "bare-batches", str(partitions)) as batches,
    ):
        processes = {"ours": decider, "send": send, "batches": batches}
        async with load_driver(servers, partitions) as driver:
            testbed.log(f"{waiting:,} channels register, each with one business system")
            await driver.seconds_to_process(OUR_TOPICS, registrations(channels))
            turns = count()
            found = await _waiting(testbed, driver, topic_pairs, processes, channels, turns)
            details = {
                "waiting": waiting,
                "of the bare loop with whole batches": ratio_of(found.rates["ours"], found.rates["batches"]),
                "bare loop with whole batches": rounded_median(found.rates["batches"]),
                "rounds": {name: [round(rate) for rate in rates] for name, rates in found.rates.items()},
                "processor µs a command": {name: rounded_median(spent) for name, spent in found.spent.items()},
                **await _in_flight(testbed, driver, topic_pairs, channels, turns, 100),
                **await _in_flight(testbed, driver, topic_pairs, channels, turns, 1),
                **await _one_partition(testbed, driver, channels, turns),
                "resident MB": round(decider.resident_bytes() / 1e6),
            }
    peers = await _peers(testbed, peer, channels)
    return [
        Result(
            "decider",
            "commands/s",
            ours=rounded_median(found.rates["ours"]),
            limit=rounded_median(found.rates["send"]),
            limit_is="bare aiokafka loop with send, three records a command, deciding nothing",
            ratio=ratio_of(found.rates["ours"], found.rates["send"]),
            peer=max(rounded_median(rates) for rates in peers.values()),
            peer_is=f"the quicker of {' and '.join(peers)}",
            details=details | {"peers": {name: f"{rounded_median(rates):,.0f}/s" for name, rates in peers.items()}},
        )
    ]


@dataclass
class _Measured:
    """By contestant, round by round: commands a second, and microseconds of processor a command."""

    rates: dict[str, list[float]]
    spent: dict[str, list[float]]


async def _waiting(
    testbed: Testbed,
    driver: LoadDriver,
    topic_pairs: dict[str, TopicPair],
    processes: dict[str, Contestant],
    channels: range,
    turns: Iterator[int],
) -> _Measured:
    """Each contestant with all commands waiting; the first two turns warm everything up."""
    found = _Measured({name: [] for name in topic_pairs}, {name: [] for name in topic_pairs})
    for turn in islice(turns, testbed.rounds + 2):
        for name, topic_pair in topic_pairs.items():
            before = processes[name].processor_s()
            seconds = await driver.seconds_to_process(topic_pair, changes(channels, turn))
            if turn >= 2:
                found.rates[name].append(len(channels) / seconds)
                found.spent[name].append((processes[name].processor_s() - before) / len(channels) * 1e6)
        testbed.log(
            f"turn {turn}: " + ", ".join(f"{name} {rates[-1]:,.0f}/s" for name, rates in found.rates.items() if rates)
        )
    return found


async def _one_partition(testbed: Testbed, driver: LoadDriver, channels: range, turns: Iterator[int]) -> dict[str, Any]:
    """Commands a second when all wait on one partition, so that nothing is decided while a transaction commits."""
    alone = [number for number in channels if partition_of(channel_name(number), testbed.partitions) == 0]
    rates = [
        len(alone) / await driver.seconds_to_process(OUR_TOPICS, changes(alone, turn)) for turn in islice(turns, 3)
    ]
    return {"all on one partition": f"{rounded_median(rates):,.0f}/s"}


async def _in_flight(
    testbed: Testbed,
    driver: LoadDriver,
    topic_pairs: dict[str, TopicPair],
    channels: range,
    turns: Iterator[int],
    in_flight: int,
) -> dict[str, Any]:
    """Commands a second with so many in flight, one answered before the next goes out."""
    number = min(len(channels), testbed.scaled(200 + 20 * in_flight, least=20))
    rates: dict[str, list[float]] = {name: [] for name in topic_pairs}
    for turn in islice(turns, 3):
        for name, topic_pair in topic_pairs.items():
            commands = list(changes(channels[:number], turn))
            started = time.perf_counter()
            await driver.closed_loop(topic_pair, commands, in_flight)
            rates[name].append(number / (time.perf_counter() - started))
    return {
        f"{in_flight} in flight": {
            **{name: f"{median(found):,.0f}/s" for name, found in rates.items()},
            "ratio to send": ratio_of(rates["ours"], rates["send"]),
            "ratio to batches": ratio_of(rates["ours"], rates["batches"]),
        }
    }


async def _peers(testbed: Testbed, topic_pair: TopicPair, channels: range) -> dict[str, list[float]]:
    """Commands a second of what others would use for the same, turn about."""
    number = min(len(channels), testbed.scaled(1_000))
    library = await asyncio.to_thread(eventsourcing_peer.application, testbed.dsn)
    for channel in channels[:number]:
        await asyncio.to_thread(library.register, channel_name(channel))
    names = "FastStream, one message at a time, with asyncpg", "eventsourcing with PostgreSQL"
    rates: dict[str, list[float]] = {name: [] for name in names}
    with testbed.script("faststream_peer", testbed.bootstrap_servers, testbed.dsn, "peer"):
        async with load_driver(testbed.bootstrap_servers, testbed.partitions) as driver:
            for turn in range(3):
                commands = list(changes(channels[:number], turn))
                rates[names[0]].append(number / await driver.seconds_to_process(topic_pair, commands))
                rates[names[1]].append(await asyncio.to_thread(eventsourcing_peer.rate, library, commands))
    await asyncio.to_thread(library.close)
    return rates

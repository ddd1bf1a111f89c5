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
from tests.bench.lanes import OURS, make_bare_lane
from tests.bench.report import Result, middle, ratio_of
from tests.bench.surroundings import Contestant, Surroundings
from tests.bench.traffic import Lane, Track, changes, channel_name, registrations, track

WAITING = 10_000


async def run(place: Surroundings) -> list[Result]:
    waiting = place.scaled(WAITING)
    channels = range(waiting)
    servers, partitions = place.bootstrap_servers, place.partitions
    lanes = {
        "ours": OURS,
        "send": await make_bare_lane(servers, "bare-send", partitions),
        "batches": await make_bare_lane(servers, "bare-batches", partitions),
    }
    peer = await make_bare_lane(servers, "peer", partitions)
    with (
        place.service("decider") as decider,
        place.script("bare_loop", "send", servers, "bare-send", str(partitions)) as send,
        place.script("bare_loop", "batches", servers, "bare-batches", str(partitions)) as batches,
    ):
        processes = {"ours": decider, "send": send, "batches": batches}
        async with track(servers, partitions) as running:
            place.say(f"{waiting:,} channels register, each with one business system")
            await running.race(OURS, registrations(channels))
            turns = count()
            found = await _waiting(place, running, lanes, processes, channels, turns)
            details = {
                "waiting": waiting,
                "of the bare loop with whole batches": ratio_of(found.rates["ours"], found.rates["batches"]),
                "bare loop with whole batches": middle(found.rates["batches"]),
                "rounds": {name: [round(rate) for rate in rates] for name, rates in found.rates.items()},
                "processor µs a command": {name: middle(spent) for name, spent in found.spent.items()},
                **await _in_flight(place, running, lanes, channels, turns, 100),
                **await _in_flight(place, running, lanes, channels, turns, 1),
                **await _one_partition(place, running, channels, turns),
                "resident MB": round(decider.resident_bytes() / 1e6),
                **await _two_processes(place, running, lanes, channels, turns),
            }
    peers = await _peers(place, peer, channels)
    return [
        Result(
            "decider",
            "commands/s",
            ours=middle(found.rates["ours"]),
            limit=middle(found.rates["send"]),
            limit_is="bare aiokafka loop with send, three records a command, deciding nothing",
            ratio=ratio_of(found.rates["ours"], found.rates["send"]),
            peer=max(middle(rates) for rates in peers.values()),
            peer_is=f"the quicker of {' and '.join(peers)}",
            details=details | {"peers": {name: f"{middle(rates):,.0f}/s" for name, rates in peers.items()}},
        )
    ]


@dataclass
class _Measured:
    """By contestant, round by round: commands a second, and microseconds of processor a command."""

    rates: dict[str, list[float]]
    spent: dict[str, list[float]]


async def _waiting(
    place: Surroundings,
    running: Track,
    lanes: dict[str, Lane],
    processes: dict[str, Contestant],
    channels: range,
    turns: Iterator[int],
) -> _Measured:
    """Each contestant with all commands waiting; the first two turns warm everything up."""
    found = _Measured({name: [] for name in lanes}, {name: [] for name in lanes})
    for turn in islice(turns, place.rounds + 2):
        for name, lane in lanes.items():
            before = processes[name].processor_s()
            seconds = await running.race(lane, changes(channels, turn))
            if turn >= 2:
                found.rates[name].append(len(channels) / seconds)
                found.spent[name].append((processes[name].processor_s() - before) / len(channels) * 1e6)
        place.say(
            f"turn {turn}: " + ", ".join(f"{name} {rates[-1]:,.0f}/s" for name, rates in found.rates.items() if rates)
        )
    return found


async def _one_partition(place: Surroundings, running: Track, channels: range, turns: Iterator[int]) -> dict[str, Any]:
    """Commands a second when all wait on one partition, so that nothing is decided while a transaction commits."""
    alone = [number for number in channels if partition_of(channel_name(number), place.partitions) == 0]
    rates = [len(alone) / await running.race(OURS, changes(alone, turn)) for turn in islice(turns, 3)]
    return {"all on one partition": f"{middle(rates):,.0f}/s"}


async def _two_processes(
    place: Surroundings, running: Track, lanes: dict[str, Lane], channels: range, turns: Iterator[int]
) -> dict[str, Any]:
    """Commands a second of two deciders that share the partitions, beside the same bare loops, of one process each."""
    rates: dict[str, list[float]] = {name: [] for name in lanes}
    with place.service("decider"):
        await running.race(OURS, changes(channels, next(turns)))
        for turn in islice(turns, 3):
            for name, lane in lanes.items():
                rates[name].append(len(channels) / await running.race(lane, changes(channels, turn)))
    return {
        "two deciders side by side": {
            "ours": f"{middle(rates['ours']):,.0f}/s",
            "ratio to send": ratio_of(rates["ours"], rates["send"]),
            "ratio to batches": ratio_of(rates["ours"], rates["batches"]),
        }
    }


async def _in_flight(
    place: Surroundings,
    running: Track,
    lanes: dict[str, Lane],
    channels: range,
    turns: Iterator[int],
    in_flight: int,
) -> dict[str, Any]:
    """Commands a second with so many in flight, one answered before the next goes out."""
    number = min(len(channels), place.scaled(200 + 20 * in_flight, least=20))
    rates: dict[str, list[float]] = {name: [] for name in lanes}
    for turn in islice(turns, 3):
        for name, lane in lanes.items():
            commands = list(changes(channels[:number], turn))
            begun = time.perf_counter()
            await running.closed_loop(lane, commands, in_flight)
            rates[name].append(number / (time.perf_counter() - begun))
    return {
        f"{in_flight} in flight": {
            **{name: f"{median(found):,.0f}/s" for name, found in rates.items()},
            "ratio to send": ratio_of(rates["ours"], rates["send"]),
            "ratio to batches": ratio_of(rates["ours"], rates["batches"]),
        }
    }


async def _peers(place: Surroundings, lane: Lane, channels: range) -> dict[str, list[float]]:
    """Commands a second of what others would use for the same, turn about."""
    number = min(len(channels), place.scaled(1_000))
    library = await asyncio.to_thread(eventsourcing_peer.application, place.dsn)
    for channel in channels[:number]:
        await asyncio.to_thread(library.register, channel_name(channel))
    names = "FastStream, one message at a time, with asyncpg", "eventsourcing with PostgreSQL"
    rates: dict[str, list[float]] = {name: [] for name in names}
    with place.script("faststream_peer", place.bootstrap_servers, place.dsn, "peer"):
        async with track(place.bootstrap_servers, place.partitions) as running:
            for turn in range(3):
                commands = list(changes(channels[:number], turn))
                rates[names[0]].append(number / await running.race(lane, commands))
                rates[names[1]].append(await asyncio.to_thread(eventsourcing_peer.rate, library, commands))
    await asyncio.to_thread(library.close)
    return rates

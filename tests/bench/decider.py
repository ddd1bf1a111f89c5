"""`decider`: commands a second through the real decider, beside bare loops that decide nothing."""

from __future__ import annotations

import asyncio
import time
from statistics import median
from typing import Any

from tests.bench import eventsourcing_peer
from tests.bench.lanes import OURS, make_bare_lane
from tests.bench.report import Result, middle, ratio_of
from tests.bench.surroundings import Surroundings
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
        place.script("bare_loop", "send", servers, "bare-send", str(partitions)),
        place.script("bare_loop", "batches", servers, "bare-batches", str(partitions)),
    ):
        async with track(servers, partitions) as running:
            place.say(f"{waiting:,} channels register, each with one business system")
            await running.race(OURS, registrations(channels))
            rates = await _waiting(place, running, lanes, channels)
            details = {
                "waiting": waiting,
                "of the bare loop with whole batches": ratio_of(rates["ours"], rates["batches"]),
                "bare loop with whole batches": middle(rates["batches"]),
                "rounds": {name: [round(rate) for rate in found] for name, found in rates.items()},
                **await _in_flight(place, running, lanes, channels, 100),
                **await _in_flight(place, running, lanes, channels, 1),
                "resident MB": round(decider.resident_bytes() / 1e6),
            }
    peers = await _peers(place, peer, channels)
    return [
        Result(
            "decider",
            "commands/s",
            ours=middle(rates["ours"]),
            limit=middle(rates["send"]),
            limit_is="bare aiokafka loop with send, three records a command, deciding nothing",
            ratio=ratio_of(rates["ours"], rates["send"]),
            peer=max(middle(found) for found in peers.values()),
            peer_is=f"the quicker of {' and '.join(peers)}",
            details=details | {"peers": {name: f"{middle(found):,.0f}/s" for name, found in peers.items()}},
        )
    ]


async def _waiting(
    place: Surroundings, running: Track, lanes: dict[str, Lane], channels: range
) -> dict[str, list[float]]:
    """Commands a second of each contestant with all commands waiting; the first two turns warm everything up."""
    rates: dict[str, list[float]] = {name: [] for name in lanes}
    for turn in range(place.rounds + 2):
        for name, lane in lanes.items():
            seconds = await running.race(lane, changes(channels, turn))
            if turn >= 2:
                rates[name].append(len(channels) / seconds)
        place.say(f"turn {turn}: " + ", ".join(f"{name} {found[-1]:,.0f}/s" for name, found in rates.items() if found))
    return rates


async def _in_flight(
    place: Surroundings, running: Track, lanes: dict[str, Lane], channels: range, in_flight: int
) -> dict[str, Any]:
    """Commands a second with so many in flight, one answered before the next goes out."""
    count = min(len(channels), place.scaled(200 + 20 * in_flight, least=20))
    rates: dict[str, list[float]] = {name: [] for name in lanes}
    for turn in range(3):
        for name, lane in lanes.items():
            commands = list(changes(channels[:count], 100 + turn + in_flight))
            begun = time.perf_counter()
            await running.closed_loop(lane, commands, in_flight)
            rates[name].append(count / (time.perf_counter() - begun))
    return {
        f"{in_flight} in flight": {
            **{name: f"{median(found):,.0f}/s" for name, found in rates.items()},
            "ratio to send": ratio_of(rates["ours"], rates["send"]),
            "ratio to batches": ratio_of(rates["ours"], rates["batches"]),
        }
    }


async def _peers(place: Surroundings, lane: Lane, channels: range) -> dict[str, list[float]]:
    """Commands a second of what others would use for the same, turn about."""
    count = min(len(channels), place.scaled(1_000))
    library = await asyncio.to_thread(eventsourcing_peer.application, place.dsn)
    for number in channels[:count]:
        await asyncio.to_thread(library.register, channel_name(number))
    names = "FastStream, one message at a time, with asyncpg", "eventsourcing with PostgreSQL"
    rates: dict[str, list[float]] = {name: [] for name in names}
    with place.script("faststream_peer", place.bootstrap_servers, place.dsn, "peer"):
        async with track(place.bootstrap_servers, place.partitions) as running:
            for turn in range(3):
                commands = list(changes(channels[:count], turn))
                rates[names[0]].append(count / await running.race(lane, commands))
                rates[names[1]].append(await asyncio.to_thread(eventsourcing_peer.rate, library, commands))
    await asyncio.to_thread(library.close)
    return rates

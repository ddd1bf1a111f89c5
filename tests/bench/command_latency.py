"""`command-latency`: from publish to outcome at light load, beside a bare loop of the same shape."""

from __future__ import annotations

from statistics import quantiles

from tests.bench.lanes import OURS, make_bare_lane
from tests.bench.report import Result, middle, ratio_of
from tests.bench.surroundings import Surroundings
from tests.bench.traffic import changes, registrations, track

_PAUSE_S = 0.01
"""Between an answer and the next command: about fifty commands a second."""


async def run(place: Surroundings) -> list[Result]:
    servers, partitions = place.bootstrap_servers, place.partitions
    lanes = {"ours": OURS, "bare": await make_bare_lane(servers, "bare", partitions)}
    channels = range(place.scaled(400))
    taken: dict[str, list[list[float]]] = {name: [] for name in lanes}
    with place.service("decider"), place.script("bare_loop", "send", servers, "bare", str(partitions)):
        async with track(servers, partitions) as running:
            await running.race(OURS, registrations(channels))
            for turn in range(place.rounds + 1):
                for name, lane in lanes.items():
                    latencies = await running.closed_loop(lane, list(changes(channels, turn)), 1, _PAUSE_S)
                    if turn:
                        taken[name].append([1000 * seconds for seconds in latencies])
                place.say(f"turn {turn}")
    p50 = {name: [_percentile(turn, 50) for turn in turns] for name, turns in taken.items()}
    p99 = {name: [_percentile(turn, 99) for turn in turns] for name, turns in taken.items()}
    return [
        Result(
            "command-latency",
            "ms, p99",
            ours=middle(p99["ours"]),
            limit=middle(p99["bare"]),
            limit_is="bare aiokafka loop of the same shape",
            ratio=ratio_of(p99["bare"], p99["ours"]),
            details={
                "p50 ms": {name: middle(found) for name, found in p50.items()},
                "p50 ratio": ratio_of(p50["bare"], p50["ours"]),
                "p99 ms, rounds": {name: [round(one, 1) for one in found] for name, found in p99.items()},
                "commands a round": len(channels),
            },
        )
    ]


def _percentile(values: list[float], percent: int) -> float:
    return quantiles(values, n=100, method="inclusive")[percent - 1]

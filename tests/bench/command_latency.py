"""`command-latency`: from publish to outcome at light load, beside a bare loop of the same shape."""

from __future__ import annotations

from statistics import quantiles

from tests.bench.load_driver import changes, load_driver, registrations
from tests.bench.report import Result, ratio_of, rounded_median
from tests.bench.testbed import Testbed
from tests.bench.topic_pairs import OUR_TOPICS, create_bare_topics

_PAUSE_S = 0.01
"""Between an answer and the next command: about fifty commands a second."""


async def run(testbed: Testbed) -> list[Result]:
    servers, partitions = testbed.bootstrap_servers, testbed.partitions
    topic_pairs = {"ours": OUR_TOPICS, "bare": await create_bare_topics(servers, "bare", partitions)}
    channels = range(testbed.scaled(400))
    taken: dict[str, list[list[float]]] = {name: [] for name in topic_pairs}
    with testbed.service("decider"), testbed.script("bare_loop", "send", servers, "bare", str(partitions)):
        async with load_driver(servers, partitions) as driver:
            await driver.seconds_to_process(OUR_TOPICS, registrations(channels))
            for turn in range(testbed.rounds + 1):
                for name, topic_pair in topic_pairs.items():
                    latencies = await driver.closed_loop(topic_pair, list(changes(channels, turn)), 1, _PAUSE_S)
                    if turn:
                        taken[name].append([1000 * seconds for seconds in latencies])
                testbed.log(f"turn {turn}")
    p50 = {name: [_percentile(turn, 50) for turn in turns] for name, turns in taken.items()}
    p99 = {name: [_percentile(turn, 99) for turn in turns] for name, turns in taken.items()}
    return [
        Result(
            "command-latency",
            "ms, p99",
            ours=rounded_median(p99["ours"]),
            limit=rounded_median(p99["bare"]),
            limit_is="bare aiokafka loop of the same shape",
            ratio=ratio_of(p99["bare"], p99["ours"]),
            details={
                "p50 ms": {name: rounded_median(found) for name, found in p50.items()},
                "p50 ratio": ratio_of(p50["bare"], p50["ours"]),
                "p99 ms, rounds": {name: [round(one, 1) for one in found] for name, found in p99.items()},
                "commands a round": len(channels),
            },
        )
    ]


def _percentile(values: list[float], percent: int) -> float:
    return quantiles(values, n=100, method="inclusive")[percent - 1]

"""`deciders`: commands a second of one to four deciders that share the partitions, beside bare loops of one process."""

from __future__ import annotations

import os
from contextlib import ExitStack
from itertools import count, islice
from typing import Any

from tests.bench.load_driver import changes, load_driver, registrations
from tests.bench.report import Result, ratio_of, rounded_median
from tests.bench.testbed import Testbed
from tests.bench.topic_pairs import OUR_TOPICS, create_bare_topics

_WAITING = 10_000
_MOST = 4
_LOOPS = ("send", "batches")


async def run(testbed: Testbed) -> list[Result]:
    channels = range(testbed.scaled(_WAITING))
    servers, partitions = testbed.bootstrap_servers, testbed.partitions
    topic_pairs = {"ours": OUR_TOPICS}
    for how in _LOOPS:
        topic_pairs[how] = await create_bare_topics(servers, f"bare-{how}", partitions)
    rates: list[dict[str, list[float]]] = []
    turns = count()
    with ExitStack() as processes:
        for how in _LOOPS:
            processes.enter_context(testbed.script("bare_loop", how, servers, f"bare-{how}", str(partitions)))
        async with load_driver(servers, partitions) as driver:
            for deciders in range(1, _MOST + 1):
                processes.enter_context(testbed.service("decider"))
                if deciders == 1:
                    await driver.seconds_to_process(OUR_TOPICS, registrations(channels))
                await driver.seconds_to_process(OUR_TOPICS, changes(channels, next(turns)))  # partitions have moved
                found: dict[str, list[float]] = {name: [] for name in topic_pairs}
                for turn in islice(turns, testbed.rounds):
                    for name, topic_pair in topic_pairs.items():
                        seconds = await driver.seconds_to_process(topic_pair, changes(channels, turn))
                        found[name].append(len(channels) / seconds)
                rates.append(found)
                testbed.log(f"{deciders} deciders: {_row(found)}")
    alone = rates[0]
    return [
        Result(
            "deciders",
            "commands/s",
            ours=rounded_median(alone["ours"]),
            limit=rounded_median(alone["send"]),
            limit_is="bare aiokafka loop with send, three records a command, deciding nothing",
            ratio=ratio_of(alone["ours"], alone["send"]),
            details={f"{number} deciders": _row(found) for number, found in enumerate(rates, 1)}
            | {"waiting": len(channels), "cores": os.cpu_count()},
        )
    ]


def _row(found: dict[str, list[float]]) -> dict[str, Any]:
    return {name: f"{rounded_median(of):,.0f}/s" for name, of in found.items()} | {
        f"ratio to {how}": ratio_of(found["ours"], found[how]) for how in _LOOPS
    }

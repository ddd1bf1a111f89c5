"""Building a version with several processes, each with a share of the partitions."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping
from multiprocessing import get_context, parent_process
from typing import Any, TypeVar

import uvloop
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from contracts.partition_growth import Partitions
from services.infrastructure.config import Settings
from services.infrastructure.parent_partitions import read_growth
from services.infrastructure.postgres import BY_KEY, OUTAGES, Pool, pool_of
from services.projector.models import READ_MODELS, ReadModel
from services.projector.rebuild import BUILDING, Offsets, Progress, RebuildRefused, builder, distance

WORTHWHILE = 50_000
"""Below this number of offsets, one process is as fast."""

_START = "fork" if sys.platform == "linux" else "spawn"
"""A fork starts at once; importing everything again takes most of a second. The child uses no event loop or connection
that it inherits, and exits without cleaning them up."""

_LOOK_EVERY_S = 0.05


Key = TypeVar("Key")


def shares_of(behind: Mapping[Key, int], shares: int) -> list[list[Key]]:
    """Divides the partitions (partition -> offsets behind) into ``shares`` lists with about equal work."""
    made: list[list[Key]] = [[] for _ in range(min(shares, len(behind)))]
    for partition in sorted(behind, key=lambda one: behind[one], reverse=True):
        min(made, key=lambda share: sum(behind[one] for one in share)).append(partition)
    return made


def families_of(sources: Iterable[TopicPartition], growth: Partitions) -> dict[TopicPartition, list[TopicPartition]]:
    """The partitions by the first that their channels were on: those that share channels are built by one process."""
    families = defaultdict[TopicPartition, list[TopicPartition]](list)
    for source in sources:
        families[TopicPartition(source.topic, growth.origin(*source))].append(source)
    return families


async def build(
    settings: Settings, pool: Pool, model: ReadModel, version: int, to: Offsets, progress: Progress
) -> None:
    """Builds the version up to these offsets if it is far enough behind; the caller applies the rest.

    Raises `RebuildRefused`.
    """
    left = await distance(pool, model, version)
    if left < WORTHWHILE:
        return
    growth = await read_growth(settings.kafka_bootstrap_servers)
    families = families_of(to, growth)
    work = {family: sum(to[tp] for tp in members) for family, members in families.items()}
    starting: Any = get_context(_START)
    errors: Any = starting.SimpleQueue()
    working = [
        starting.Process(
            target=_build,
            args=(settings, model.name, version, {tp: to[tp] for family in share for tp in families[family]}, errors),
            daemon=True,
        )
        for share in shares_of(work, os.cpu_count() or 1)
    ]
    for process in working:
        process.start()
    try:
        while any(process.is_alive() for process in working):
            await asyncio.sleep(_LOOK_EVERY_S)
            now = await distance(pool, model, version)
            progress(max(0, left - now))
            left = min(left, now)
    finally:
        for process in working:
            process.kill()
            process.join()
    if not errors.empty():
        raise RebuildRefused(errors.get())
    if any(process.exitcode for process in working):
        raise RebuildRefused("A process of the rebuild ended before it was done; run the rebuild again to continue.")


def _build(settings: Settings, model: str, version: int, to: Offsets, errors: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    gc.freeze()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_share(settings, READ_MODELS[model], version, to))
    except (RebuildRefused, KafkaError, *OUTAGES) as error:
        errors.put(str(error) or type(error).__name__)
        sys.exit(1)


def _end_with_parent() -> None:
    """Ends this process when the rebuild is killed."""
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)


async def _share(settings: Settings, model: ReadModel, version: int, to: Offsets) -> None:
    pool = await pool_of(settings, size=2, planning=BY_KEY)
    try:
        async with pool.acquire() as connection:
            await connection.execute("SELECT pg_advisory_lock_shared($1)", BUILDING)
            async with builder(settings, pool, model, version, lambda _: None) as building:
                await building.catch_up(to)
    finally:
        await pool.close()

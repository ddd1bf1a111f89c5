"""Building a version with several processes: partitions know nothing of each other, so each builds its share."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
from collections.abc import Mapping
from multiprocessing import get_context, parent_process
from typing import Any

import uvloop
from aiokafka.errors import KafkaError

from services.infrastructure.postgres import BY_KEY, OUTAGES, Pool, pool_of
from services.infrastructure.settings import Settings
from services.projector.rebuild import BUILDING, Progress, RebuildRefused, builder, distance

WORTHWHILE = 50_000
"""Fewer offsets are read as fast by one process."""

_START = "fork" if sys.platform == "linux" else "spawn"
"""A fork is there at once, where importing all of this anew takes most of a second. It uses nothing that it inherits:
neither the event loop nor a connection, and it ends without cleaning up what is not its own."""

_LOOK_EVERY_S = 0.05


def shares_of(behind: Mapping[int, int], shares: int) -> list[list[int]]:
    """Partitions for so many processes, alike in what there is to do: partition -> offsets that it is behind."""
    made: list[list[int]] = [[] for _ in range(min(shares, len(behind)))]
    for partition in sorted(behind, key=lambda one: behind[one], reverse=True):
        min(made, key=lambda share: sum(behind[one] for one in share)).append(partition)
    return made


async def build(settings: Settings, pool: Pool, version: int, to: Mapping[int, int], progress: Progress) -> None:
    """Brings the version to these offsets where it is so far behind that it pays; the rest is left to the caller.

    Raises `RebuildRefused`.
    """
    left = await distance(pool, version)
    if left < WORTHWHILE:
        return
    starting: Any = get_context(_START)
    said: Any = starting.SimpleQueue()
    working = [
        starting.Process(target=_build, args=(settings, version, {one: to[one] for one in share}, said), daemon=True)
        for share in shares_of(to, os.cpu_count() or 1)
    ]
    for process in working:
        process.start()
    try:
        while any(process.is_alive() for process in working):
            await asyncio.sleep(_LOOK_EVERY_S)
            now = await distance(pool, version)
            progress(max(0, left - now))
            left = min(left, now)
    finally:
        for process in working:
            process.kill()
            process.join()
    if not said.empty():
        raise RebuildRefused(said.get())
    if any(process.exitcode for process in working):
        raise RebuildRefused("A process that was building ended before it was done; call it again to go on.")


def _build(settings: Settings, version: int, to: Mapping[int, int], said: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started us ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    gc.freeze()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_share(settings, version, to))
    except (RebuildRefused, KafkaError, *OUTAGES) as error:
        said.put(str(error) or type(error).__name__)
        sys.exit(1)


def _end_with_parent() -> None:
    """A rebuild that was killed leaves nobody behind who goes on building."""
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)


async def _share(settings: Settings, version: int, to: Mapping[int, int]) -> None:
    pool = await pool_of(settings, size=2, planning=BY_KEY)
    try:
        async with pool.acquire() as connection:
            await connection.execute("SELECT pg_advisory_lock_shared($1)", BUILDING)
            async with builder(settings, pool, version, lambda _: None) as building:
                await building.catch_up(to)
    finally:
        await pool.close()

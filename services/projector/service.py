"""The projector: applies the events to the read models, each batch in one transaction with its checkpoint."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Sequence
from typing import Any

from contracts import topics
from projections import catalogue, history
from projections import settings as settings_projection
from projections.events import read_event
from services.infrastructure.consuming import Apply, Consumer
from services.infrastructure.postgres import BY_KEY, Connection, migrate, pool_of
from services.infrastructure.settings import Settings
from services.projector import versions

_AT_ONCE = 2
"""Partitions of a read model that are written at once: the database works for one while the next is folded. More stand
in each other's way at the ends of the same indexes."""


async def apply_settings(connection: Connection, partition: int, records: Sequence[Any]) -> None:
    """One batch of one partition's events, onto the tables of the live version, which stays live meanwhile."""
    await versions.use_live(connection, settings_projection.MODEL)
    await settings_projection.apply(connection, partition, [read_event(one.value) for one in records])


def projections() -> dict[str, dict[str, Apply]]:
    """Each a consumer group of its own: one that stands still holds up no other."""
    return {
        settings_projection.NAME: {topics.EVENTS.name: apply_settings},
        history.NAME: {topics.EVENTS.name: history.EventHistory().apply, topics.OUTCOMES.name: history.apply_outcomes},
        catalogue.NAME: {topics.EVENTS.name: catalogue.apply},
    }


async def run(settings: Settings, *, ready: Callable[[], None]) -> None:
    """Projects until cancelled; outlives its broker and database. Raises `SettingsError`."""
    # Folding makes many small objects and no cycles: collecting all that lives again and again costs a third.
    gc.set_threshold(500_000, 20, 100)
    models = projections()
    pools = [await pool_of(settings, size=_AT_ONCE, resets=False, planning=BY_KEY) for _ in models]
    await migrate(pools[0], "projections", settings_projection.MIGRATIONS)
    consumers = [
        Consumer(settings, pool, name, appliers) for pool, (name, appliers) in zip(pools, models.items(), strict=True)
    ]
    try:
        async with asyncio.TaskGroup() as starting:
            for consumer in consumers:
                starting.create_task(consumer.start())
        ready()
        await asyncio.Event().wait()
    finally:
        await asyncio.gather(*(consumer.stop() for consumer in consumers))
        await asyncio.gather(*(pool.close() for pool in pools))

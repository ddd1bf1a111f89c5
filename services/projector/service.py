"""The projector: applies the events to the read models, each batch in one transaction with its checkpoint."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

from projections import MIGRATIONS as PROJECTION_MIGRATIONS
from services.infrastructure.checkpointed_commits import Apply
from services.infrastructure.checkpoints import MIGRATIONS as CHECKPOINT_MIGRATIONS
from services.infrastructure.config import Settings
from services.infrastructure.kafka_to_postgres import Consumer
from services.infrastructure.postgres import BY_KEY, migrate, pool_of
from services.projector.models import READ_MODELS

_AT_ONCE = 2
"""Partitions of a read model that are written at once: the database works for one while the next is folded. More would
contend for the ends of the same indexes."""


def projections() -> dict[str, dict[str, Apply]]:
    """Each read model has its own consumer group, so that a blocked one does not block the others."""
    return {model.consumer: model.live_appliers() for model in READ_MODELS.values()}


async def run(settings: Settings, *, ready: Callable[[], None]) -> None:
    """Projects until cancelled, through outages of the broker and the database. Raises `SettingsError`."""
    # Folding makes many small objects and no cycles: frequent full collections would cost a third of the time.
    gc.set_threshold(500_000, 20, 100)
    models = projections()
    pools = [await pool_of(settings, size=_AT_ONCE, resets=False, planning=BY_KEY, takes_over=True) for _ in models]
    await migrate(pools[0], "checkpoints", CHECKPOINT_MIGRATIONS)
    await migrate(pools[0], "projections", PROJECTION_MIGRATIONS)
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

"""The projector: applies the events to the read models, each batch in one transaction with its checkpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from contracts import topics
from contracts.envelope import EventEnvelope
from projections import settings as settings_projection
from services.infrastructure.consuming import Consumer
from services.infrastructure.postgres import Connection, migrate, pool_of
from services.infrastructure.settings import Settings
from services.projector import versions


async def apply_settings(connection: Connection, partition: int, records: Sequence[Any]) -> None:
    """One batch of one partition's events, onto the tables of the live version, which stays live meanwhile."""
    await versions.use_live(connection, settings_projection.MODEL)
    events = [EventEnvelope.model_validate_json(one.value) for one in records]
    await settings_projection.apply(connection, partition, events)


async def run(settings: Settings, *, ready: Callable[[], None]) -> None:
    """Projects until cancelled; outlives its broker and database. Raises `SettingsError`."""
    pool = await pool_of(settings, size=4)
    await migrate(pool, "projections", settings_projection.MIGRATIONS)
    consumer = Consumer(settings, pool, settings_projection.NAME, {topics.EVENTS.name: apply_settings})
    try:
        await consumer.start()
        ready()
        await asyncio.Event().wait()
    finally:
        await consumer.stop()
        await pool.close()

"""Switching the views of a read model to another version, in one transaction, so that no reader sees an older state.

Batches of the live version wait meanwhile: they hold the model's lock shared, the swap holds it exclusively. Under the
lock the other version is brought to the checkpoints of the live one. A reader with an older snapshot would see the
other version without its last events through the new views, so the swap waits for such transactions to end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import asyncpg
import structlog

from services.infrastructure.checkpoints import rename_checkpoints
from services.infrastructure.config import Settings
from services.infrastructure.postgres import Connection, Pool
from services.projector import parallel_build
from services.projector.models import ReadModel
from services.projector.rebuild import (
    Builder,
    ModelsDiffer,
    Progress,
    RebuildRefused,
    alone,
    begin,
    builder,
    building_name,
    check,
    distance,
    drop,
    offsets_of,
)
from services.projector.versions import lock_of, schema_of, versions_of

log = structlog.stdlib.get_logger(__name__)

_TAIL = 2_000
"""The most offsets to apply while batches wait."""

_TRIES = 20
_SNAPSHOT_PATIENCE_S = 5.0
_OLD_SNAPSHOTS = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
        AND backend_xmin IS NOT NULL AND xact_start < $1 AND wait_event IS DISTINCT FROM 'advisory'
"""


Bar = Callable[[str, int], AbstractContextManager[Progress]]
"""Makes a progress bar from a title and a number of offsets."""


async def rebuild(
    settings: Settings,
    pool: Pool,
    model: ReadModel,
    *,
    restart: bool = False,
    accept_differences: bool = False,
    say: Callable[[str], None] = log.info,
    bar: Bar = lambda _, __: nullcontext(lambda _: None),
) -> int:
    """Builds the next version, checks it, makes it live, and returns it. Raises `RebuildRefused` and `ModelsDiffer`."""
    async with alone(pool):
        version = await begin(pool, model, restart=restart)
        schema = schema_of(model.name, version)
        with bar(f"building {schema}", await distance(pool, model, version)) as progress:
            async with builder(settings, pool, model, version, progress) as building:
                live = await building.live_offsets(pool)
                await parallel_build.build(settings, pool, model, version, live, progress)
                await building.catch_up(live)
                try:
                    rows = await check(pool, building)
                    say(f"{schema} equals the live version at the same cut: {rows:,} rows, byte for byte")
                except ModelsDiffer as error:
                    if not accept_differences:
                        raise
                    say(f"Accepted: {error}")
                await swap(pool, building)
        say(f"{schema} is live; the version before is kept, and `switchboard projections rollback` goes back")
        return version


async def roll_back(
    settings: Settings,
    pool: Pool,
    model: ReadModel,
    *,
    say: Callable[[str], None] = log.info,
    bar: Bar = lambda _, __: nullcontext(lambda _: None),
) -> int:
    """Brings the kept version up to date, makes it live, and returns it. Raises `RebuildRefused`."""
    async with alone(pool):
        async with pool.acquire() as connection:
            kept = (await versions_of(connection, model.name)).kept
        if kept is None:
            raise RebuildRefused("No earlier version is kept, so there is nothing to roll back to.")
        schema = schema_of(model.name, kept)
        with bar(f"catching up {schema}", await distance(pool, model, kept)) as progress:
            async with builder(settings, pool, model, kept, progress) as building:
                await swap(pool, building)
        say(f"{schema} is live again; the version before is kept")
        return kept


async def swap(pool: Pool, building: Builder) -> None:
    """Makes the version live, and keeps the previous one. Raises `RebuildRefused`."""
    for _ in range(_TRIES):
        async with pool.acquire() as connection:
            await building.catch_up(await building.live_offsets(connection))
            try:
                async with connection.transaction():
                    dropped = await _swap(connection, building)
            except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError, _TooFar, _StillRead) as error:
                log.info("swap retried", version=building.version, reason=type(error).__name__)
            else:
                async with connection.transaction():
                    if dropped is not None:
                        await drop(connection, building.model, dropped)
                return
        await asyncio.sleep(0.2)
    raise RebuildRefused(
        "The versions could not be swapped: a transaction holds on to the views, or the log grows faster than it is "
        "applied. Nothing changed; try again later."
    )


class _TooFar(Exception):
    """More than `_TAIL` offsets are left to apply."""


class _StillRead(Exception):
    """A transaction with an older snapshot is still open."""


async def _swap(connection: Connection, building: Builder) -> int | None:
    """Returns the version to drop, if any."""
    await connection.execute("SET LOCAL lock_timeout = '2s'")
    model = building.model
    await connection.execute("SELECT pg_advisory_xact_lock($1)", lock_of(model.name))
    stands = await building.live_offsets(connection)
    built = await offsets_of(connection, model, building.name)
    if sum(max(0, end - built.get(tp, 0)) for tp, end in stands.items()) > _TAIL:
        raise _TooFar
    await building.catch_up(stands)
    if await offsets_of(connection, model, building.name) != stands:
        raise _TooFar
    await _until_read_anew(connection)
    versions = await versions_of(connection, model.name)
    schema = schema_of(model.name, building.version)
    for view in model.keys:
        await connection.execute(
            f"CREATE OR REPLACE VIEW {model.name}.{view} AS SELECT * FROM {schema}.{view}"  # noqa: S608 -- our names
        )
    await connection.execute(
        "UPDATE switchboard.read_models SET live = $2, kept = live, building = NULLIF(building, $2) WHERE model = $1",
        model.name,
        building.version,
    )
    await rename_checkpoints(connection, model.consumer, to=building_name(model, versions.live))
    await rename_checkpoints(connection, building.name, to=model.consumer)
    return versions.kept if versions.kept not in (None, building.version) else None


async def _until_read_anew(connection: Connection) -> None:
    """Waits for every transaction with an older snapshot. Batches that wait for the lock take a new snapshot then."""
    now = await connection.fetchval("SELECT clock_timestamp()")
    deadline = asyncio.get_running_loop().time() + _SNAPSHOT_PATIENCE_S
    while await connection.fetch(_OLD_SNAPSHOTS, now):
        if asyncio.get_running_loop().time() > deadline:
            raise _StillRead
        await asyncio.sleep(0.01)

"""Putting another version of a read model behind the views, in one transaction, so that no reader sees a step back.

Batches of the live version wait meanwhile: they hold the model's lock shared, the swap holds it alone. Under the lock
the other version is brought to the very checkpoints of the live one. A reader's snapshot that is older than that would
show the other version without its last events, through the new views; so such transactions are waited for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import asyncpg

from projections import settings as settings_projection
from services.infrastructure.postgres import Connection, Pool
from services.infrastructure.settings import Settings
from services.projector import side_by_side
from services.projector.rebuild import (
    MODEL,
    Builder,
    ModelsDiffer,
    Progress,
    RebuildRefused,
    alone,
    begin,
    builder,
    building_name,
    check,
    checkpoints,
    distance,
    drop,
)
from services.projector.versions import lock_of, schema_of, versions_of

log = logging.getLogger(__name__)

VIEWS = ("channels", "business_systems", "intents", "positions")
"""In the order in which readers read them, so that a reader and a swap never wait for each other."""

_TAIL = 2_000
"""So many offsets at most are left to apply while batches wait."""

_TRIES = 20
_SNAPSHOT_PATIENCE_S = 5.0
_OLD_SNAPSHOTS = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
        AND backend_xmin IS NOT NULL AND xact_start < $1 AND wait_event IS DISTINCT FROM 'advisory'
"""


Bar = Callable[[str, int], AbstractContextManager[Progress]]
"""A progress bar for so many offsets, with what it is for."""


async def rebuild(
    settings: Settings,
    pool: Pool,
    *,
    restart: bool = False,
    accept_differences: bool = False,
    say: Callable[[str], None] = log.info,
    bar: Bar = lambda _, __: nullcontext(lambda _: None),
) -> int:
    """Builds the next version, checks it, makes it live, and returns it. Raises `RebuildRefused` and `ModelsDiffer`."""
    async with alone(pool):
        version = await begin(pool, restart=restart)
        schema = schema_of(MODEL, version)
        with bar(f"building {schema}", await distance(pool, version)) as progress:
            async with builder(settings, pool, version, progress) as building:
                live = await _live_checkpoints(pool)
                await side_by_side.build(settings, pool, version, live, progress)
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
    *,
    say: Callable[[str], None] = log.info,
    bar: Bar = lambda _, __: nullcontext(lambda _: None),
) -> int:
    """Brings the kept version up to date, makes it live, and returns it. Raises `RebuildRefused`."""
    async with alone(pool):
        async with pool.acquire() as connection:
            kept = (await versions_of(connection, MODEL)).kept
        if kept is None:
            raise RebuildRefused("No version is kept to go back to.")
        schema = schema_of(MODEL, kept)
        with bar(f"catching up {schema}", await distance(pool, kept)) as progress:
            async with builder(settings, pool, kept, progress) as building:
                await swap(pool, building)
        say(f"{schema} is live again; the version before is kept")
        return kept


async def _live_checkpoints(pool: Pool) -> dict[int, int]:
    async with pool.acquire() as connection:
        return await checkpoints(connection, settings_projection.NAME)


async def swap(pool: Pool, building: Builder) -> None:
    """Makes the version live, and keeps the one that was. Raises `RebuildRefused`."""
    for _ in range(_TRIES):
        async with pool.acquire() as connection:
            await building.catch_up(await checkpoints(connection, settings_projection.NAME))
            try:
                async with connection.transaction():
                    dropped = await _swap(connection, pool, building)
            except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError, _TooFar, _StillRead) as error:
                log.info("the swap tries again: %s", type(error).__name__)
            else:
                async with connection.transaction():
                    if dropped is not None:
                        await drop(connection, dropped)
                return
        await asyncio.sleep(0.2)
    raise RebuildRefused(
        "The versions could not be swapped: a transaction holds on to the views, or the log grows faster than it is "
        "applied. Nothing changed; try again later."
    )


class _TooFar(Exception):
    """More came in than is to be applied while batches wait."""


class _StillRead(Exception):
    """A transaction from before is still open."""


async def _swap(connection: Connection, pool: Pool, building: Builder) -> int | None:
    """Returns a version that nobody needs any more."""
    await connection.execute("SET LOCAL lock_timeout = '2s'")
    await connection.execute("SELECT pg_advisory_xact_lock($1)", lock_of(MODEL))
    if await distance(pool, building.version) > _TAIL:
        raise _TooFar
    stands = await checkpoints(connection, settings_projection.NAME)
    await building.catch_up(stands)
    if await checkpoints(connection, building_name(building.version)) != stands:
        raise _TooFar
    await _until_read_anew(connection)
    versions = await versions_of(connection, MODEL)
    schema = schema_of(MODEL, building.version)
    for view in VIEWS:
        await connection.execute(
            f"CREATE OR REPLACE VIEW {MODEL}.{view} AS SELECT * FROM {schema}.{view}"  # noqa: S608 -- our names
        )
    await connection.execute(
        "UPDATE switchboard.read_models SET live = $2, kept = live, building = NULLIF(building, $2) WHERE model = $1",
        MODEL,
        building.version,
    )
    await connection.execute("DELETE FROM switchboard.checkpoints WHERE consumer = $1", building_name(building.version))
    await connection.execute(
        "INSERT INTO switchboard.checkpoints SELECT $1, topic, partition, next_offset, moved_at "
        "FROM switchboard.checkpoints WHERE consumer = $2",
        building_name(versions.live),
        settings_projection.NAME,
    )
    return versions.kept if versions.kept not in (None, building.version) else None


async def _until_read_anew(connection: Connection) -> None:
    """Until every transaction that could have an older snapshot has ended. Batches that wait for us read anew then."""
    now = await connection.fetchval("SELECT clock_timestamp()")
    deadline = asyncio.get_running_loop().time() + _SNAPSHOT_PATIENCE_S
    while await connection.fetch(_OLD_SNAPSHOTS, now):
        if asyncio.get_running_loop().time() > deadline:
            raise _StillRead
        await asyncio.sleep(0.01)

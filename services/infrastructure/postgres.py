"""The database: pools, migrations, and what counts as an outage."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from services.infrastructure.settings import Settings, SettingsError

log = logging.getLogger(__name__)

OUTAGES = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that broke in the midst of a commit
    asyncpg.CannotConnectNowError,
    asyncpg.DeadlockDetectedError,
    TimeoutError,
)
"""What a database that is away, on its way down or up, or entangled in locks answers with: a second try gets over it.
Anything else is a fault of ours."""

if TYPE_CHECKING:  # only the stubs know that these are generic
    Pool = asyncpg.Pool[Any]
    Connection = asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any]
else:
    Pool = asyncpg.Pool
    Connection = asyncpg.Connection

_MIGRATING = 0x5B0A_2D01
"""The advisory lock that one migrating process holds at a time."""


BY_KEY = {"enable_hashjoin": "off", "enable_mergejoin": "off"}
"""For who joins tables with nothing but batches of keys: PostgreSQL guesses that a key costs a page from the disk, and
would rather read a table of a hundred thousand rows as a whole, again for every batch."""


async def pool_of(
    settings: Settings, *, size: int = 10, resets: bool = True, planning: Mapping[str, str] | None = None
) -> Pool:
    """A pool, as soon as the database is there, however long that takes. Raises `SettingsError`.

    ``resets`` False, a statement less for each use, is for who changes nothing that outlives a transaction: no setting
    of the session, no lock of its own. ``planning`` are settings of the planner, such as `BY_KEY`.
    """
    if settings.database_url is None:
        raise SettingsError("SWITCHBOARD_DATABASE_URL is not set; it must be postgresql://user:password@host/database.")
    waited = False
    while True:
        try:
            pool = await asyncpg.create_pool(
                settings.database_url,
                min_size=1,
                max_size=size,
                command_timeout=60,
                timeout=10,
                server_settings=dict(planning or {}),
                reset=None if resets else _as_it_is,
            )
        except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError, ValueError) as error:
            raise SettingsError(f"SWITCHBOARD_DATABASE_URL cannot be used: {error}.") from None
        except OUTAGES as error:
            if not waited:
                log.warning("waiting for the database (%s)", type(error).__name__)
            waited = True
            await asyncio.sleep(1)
        else:
            return pool


async def _as_it_is(_: Connection) -> None:
    pass


async def migrate(pool: Pool, owner: str, directory: Path) -> None:
    """Applies what is missing of the owner's ``NNNN_name.up.sql`` files, in order, each in a transaction."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _MIGRATING)
        await connection.execute(
            "CREATE SCHEMA IF NOT EXISTS switchboard;"
            "CREATE TABLE IF NOT EXISTS switchboard.migrations ("
            "owner text, name text, applied_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (owner, name))"
        )
        rows = await connection.fetch("SELECT name FROM switchboard.migrations WHERE owner = $1", owner)
        applied = {row["name"] for row in rows}
        for path in sorted(directory.glob("*.up.sql")):
            name = path.name.removesuffix(".up.sql")
            if name not in applied:
                await connection.execute(path.read_text())
                await connection.execute("INSERT INTO switchboard.migrations VALUES ($1, $2)", owner, name)


async def migrate_down(pool: Pool, owner: str, directory: Path, *, to: str | None) -> list[str]:
    """Takes back what the owner applied after the migration ``to``, or all of it, the newest first, in one transaction.

    Returns the names of what was taken back, and with it went the data. Raises LookupError where ``to`` is not applied,
    and FileNotFoundError where one has no ``.down.sql``.
    """
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _MIGRATING)
        rows = await connection.fetch("SELECT name FROM switchboard.migrations WHERE owner = $1", owner)
        applied = sorted((row["name"] for row in rows), reverse=True)
        if to is not None and to not in applied:
            raise LookupError(f"{owner} has no migration {to!r} applied; it has {', '.join(reversed(applied))}")
        gone = [name for name in applied if to is None or name > to]
        for name in gone:
            await connection.execute((directory / f"{name}.down.sql").read_text())
            await connection.execute("DELETE FROM switchboard.migrations WHERE owner = $1 AND name = $2", owner, name)
        return gone

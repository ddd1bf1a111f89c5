"""The database: pools, migrations, and what counts as an outage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg

from services.infrastructure.config import Settings, SettingsError
from services.infrastructure.metrics_endpoint import watch_pool
from services.infrastructure.outages import retry_during_outage

OUTAGES = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that broke in the midst of a commit
    asyncpg.CannotConnectNowError,
    asyncpg.DeadlockDetectedError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TransactionTimeoutError,
    TimeoutError,
)
"""What a database that is away, on its way down or up, entangled in locks, or takes us for dead answers with: a second
try gets over it. Anything else is a fault of ours."""

IDLE_TRANSACTION_S, LONGEST_TRANSACTION_S = 15, 60
"""A process that hangs within a transaction keeps its locks, and whoever takes over its work waits for them. So the
database ends a transaction that has been idle for so long, or has lasted so long: a client that stopped between the
messages of one statement does not count as idle. The second limit exists since PostgreSQL 17."""

if TYPE_CHECKING:  # only the stubs know that these are generic
    Pool = asyncpg.Pool[Any]
    Connection = asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any]
else:
    Pool = asyncpg.Pool
    Connection = asyncpg.Connection

MIGRATING = 0x5B0A_2D01
"""The advisory lock of whoever makes tables, or gives rights on them: one process at a time."""


BY_KEY = {"enable_hashjoin": "off", "enable_mergejoin": "off"}
"""For who joins tables with nothing but batches of keys: PostgreSQL guesses that a key costs a page from the disk, and
would rather read a table of a hundred thousand rows as a whole, again for every batch."""


async def pool_of(
    settings: Settings,
    *,
    size: int = 10,
    resets: bool = True,
    planning: Mapping[str, str] | None = None,
    takes_over: bool = False,
    waits: bool = True,
) -> Pool:
    """A pool, as soon as the database is there, however long that takes. Raises `SettingsError`.

    ``waits`` False is for commands, which somebody waits for: no database is a `SettingsError` too.

    ``resets`` False, a statement less for each use, is for who changes nothing that outlives a transaction: no setting
    of the session, no lock of its own. ``planning`` are settings of the planner, such as `BY_KEY`. ``takes_over`` is
    for services whose copies take over each other's work: see `LONGEST_TRANSACTION_S`. It goes with ``resets`` False.
    """
    if settings.database_url is None:
        raise SettingsError("SWITCHBOARD_DATABASE_URL is not set; it must be postgresql://user:password@host/database.")

    async def connect() -> Pool:
        try:
            return await asyncpg.create_pool(
                settings.database_url,
                min_size=1,
                max_size=size,
                command_timeout=60,
                timeout=10,
                server_settings=dict(planning or {}),
                init=_limit_transactions if takes_over else None,
                reset=None if resets else _as_it_is,
            )
        except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError, ValueError) as error:
            raise SettingsError(f"SWITCHBOARD_DATABASE_URL cannot be used: {error}.") from None

    try:
        pool = await (retry_during_outage(connect, OUTAGES, "database") if waits else connect())
    except OUTAGES as error:
        where = urlsplit(settings.database_url).netloc.rpartition("@")[2]
        reason = f": {error}" if isinstance(error, asyncpg.PostgresError) else ""
        raise SettingsError(f"No database answers at {where or 'SWITCHBOARD_DATABASE_URL'}{reason}.") from None
    watch_pool(pool)
    return pool


async def _limit_transactions(connection: Connection) -> None:
    await connection.execute(
        "SELECT set_config(name, CASE name WHEN 'transaction_timeout' THEN $1 ELSE $2 END, false) FROM pg_settings "
        "WHERE name IN ('transaction_timeout', 'idle_in_transaction_session_timeout')",
        f"{LONGEST_TRANSACTION_S}s",
        f"{IDLE_TRANSACTION_S}s",
    )


async def _as_it_is(_: Connection) -> None:
    pass


async def migrate(pool: Pool, owner: str, directory: Path) -> None:
    """Applies what is missing of the owner's ``NNNN_name.up.sql`` files, in order, each in a transaction.

    Raises `SettingsError` where something is missing that the role may not apply.
    """
    wanted = {path.name.removesuffix(".up.sql"): path for path in sorted(directory.glob("*.up.sql"))}
    async with pool.acquire() as connection:
        if wanted.keys() <= await _applied(connection, owner):
            return
        try:
            async with connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock($1)", MIGRATING)
                await _apply_missing(connection, owner, wanted)
        except asyncpg.InsufficientPrivilegeError:
            raise SettingsError(
                f"The database lacks tables of this release, which the role in SWITCHBOARD_DATABASE_URL may not make: "
                f"run `switchboard database apply` first, as the role that owns the database. (Missing: {owner}.)"
            ) from None


async def _applied(connection: Connection, owner: str) -> set[str]:
    if await connection.fetchval("SELECT to_regclass('switchboard.migrations')") is None:
        return set()
    rows = await connection.fetch("SELECT name FROM switchboard.migrations WHERE owner = $1", owner)
    return {row["name"] for row in rows}


async def _apply_missing(connection: Connection, owner: str, wanted: Mapping[str, Path]) -> None:
    await connection.execute(
        "CREATE SCHEMA IF NOT EXISTS switchboard;"
        "CREATE TABLE IF NOT EXISTS switchboard.migrations ("
        "owner text, name text, applied_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (owner, name))"
    )
    applied = await _applied(connection, owner)
    for name, path in wanted.items():
        if name not in applied:
            await connection.execute(path.read_text("utf-8"))
            await connection.execute("INSERT INTO switchboard.migrations VALUES ($1, $2)", owner, name)

"""The tables of everybody, in the order in which they are made."""

from __future__ import annotations

from projections import MIGRATIONS as PROJECTION_MIGRATIONS
from services.gateway.authentication import api_keys, sessions
from services.infrastructure.checkpoints import MIGRATIONS as CHECKPOINT_MIGRATIONS
from services.infrastructure.database_rights import apply_rights
from services.infrastructure.postgres import Pool, migrate
from services.invoker.service import MIGRATIONS as INVOKER_MIGRATIONS
from services.message_router.service import MIGRATIONS as MESSAGE_ROUTER_MIGRATIONS

MIGRATIONS = {
    "checkpoints": CHECKPOINT_MIGRATIONS,
    "projections": PROJECTION_MIGRATIONS,
    "invoker": INVOKER_MIGRATIONS,
    "message_router": MESSAGE_ROUTER_MIGRATIONS,
    "gateway": api_keys.MIGRATIONS,
    "console": sessions.MIGRATIONS,
}


async def make_tables(pool: Pool) -> None:
    """Makes what is missing of all services' tables. Raises `SettingsError` where the role may not."""
    for owner, directory in MIGRATIONS.items():
        await migrate(pool, owner, directory)


async def apply_database(pool: Pool) -> list[str]:
    """Makes the tables, and gives the services' roles their rights; returns the services that have a role."""
    await make_tables(pool)
    async with pool.acquire() as connection, connection.transaction():
        return await apply_rights(connection)

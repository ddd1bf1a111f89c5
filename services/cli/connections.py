"""The broker and the database that a command uses, from the environment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from services.infrastructure.config import Settings

if TYPE_CHECKING:
    from services.infrastructure.postgres import Pool

Result = TypeVar("Result")


def bootstrap_servers() -> str:
    """The broker's address; without one in the environment, the embedded broker's. Raises `SettingsError`."""
    return with_broker(Settings.from_environment())[1]


def with_broker(settings: Settings) -> tuple[Settings, str]:
    """The settings with the broker's address filled in, and the address."""
    if settings.kafka_bootstrap_servers is not None:
        return settings, settings.kafka_bootstrap_servers
    embedded = f"127.0.0.1:{settings.kafka_port}"
    return settings.model_copy(update={"kafka_bootstrap_servers": embedded}), embedded


def run_with_pool(owner: str, migrations: Path, use: Callable[[Pool], Awaitable[Result]]) -> Result:
    """Runs ``use`` with a pool whose tables of ``owner`` are up to date. Raises `SettingsError`."""
    from services.infrastructure.postgres import migrate, pool_of

    async def run() -> Result:
        pool = await pool_of(Settings.from_environment(), size=2, waits=False)
        try:
            await migrate(pool, owner, migrations)
            return await use(pool)
        finally:
            await pool.close()

    return asyncio.run(run())

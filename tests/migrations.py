"""Taking migrations back, which only tests do."""

from __future__ import annotations

from pathlib import Path

from services.infrastructure.postgres import Pool


async def migrate_down(pool: Pool, owner: str, directory: Path, *, to: str | None) -> list[str]:
    """Reverts the owner's migrations after ``to``, or all of them, newest first; returns their names."""
    async with pool.acquire() as connection, connection.transaction():
        rows = await connection.fetch("SELECT name FROM switchboard.migrations WHERE owner = $1", owner)
        reverted = sorted((row["name"] for row in rows if to is None or row["name"] > to), reverse=True)
        for name in reverted:
            await connection.execute((directory / f"{name}.down.sql").read_text())
            await connection.execute("DELETE FROM switchboard.migrations WHERE owner = $1 AND name = $2", owner, name)
        return reverted

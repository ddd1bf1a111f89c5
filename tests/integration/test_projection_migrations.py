"""The migrations of the read models, back and forward."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import projections
from projections import MIGRATIONS as PROJECTION_MIGRATIONS
from services.infrastructure.checkpoints import MIGRATIONS as CHECKPOINT_MIGRATIONS
from services.infrastructure.config import Settings
from services.infrastructure.postgres import Pool, migrate, pool_of
from tests.migrations import migrate_down


@pytest.fixture
async def tables(database_url: str) -> AsyncIterator[Pool]:
    """A database with nothing but the tables."""
    pool = await pool_of(Settings.from_environment({"SWITCHBOARD_DATABASE_URL": database_url}), size=2)
    await migrate(pool, "checkpoints", CHECKPOINT_MIGRATIONS)
    await migrate(pool, "projections", PROJECTION_MIGRATIONS)
    yield pool
    await pool.close()


async def test_migrations_go_back_and_forward(tables: Pool) -> None:
    async def schemas() -> set[str]:
        rows = await tables.fetch("SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema)'")
        return {row["nspname"] for row in rows} - {"switchboard", "public"}

    assert await migrate_down(tables, "projections", PROJECTION_MIGRATIONS, to="0002_read_models") == [
        "0012_entries_by_correlation", "0011_channels_by_provider", "0010_proposed_changes",
        "0009_rate_facts", "0008_versions_of_all", "0007_resource_versions", "0006_sections", "0005_room",
        "0004_catalogue", "0003_history",
    ]  # fmt: skip
    assert await schemas() == {"settings", "settings_v1"}
    await migrate(tables, "projections", PROJECTION_MIGRATIONS)
    assert await schemas() == {"settings", "settings_v1", "history", "history_v1", "catalogue", "catalogue_v1"}
    await migrate_down(tables, "projections", PROJECTION_MIGRATIONS, to=None)
    assert await schemas() == set()
    assert await tables.fetchval("SELECT count(*) FROM switchboard.migrations WHERE owner = 'projections'") == 0
    await migrate(tables, "projections", PROJECTION_MIGRATIONS)


_SHAPE = {
    "columns": """
        SELECT table_name, column_name, data_type, is_nullable, column_default, collation_name, is_generated
        FROM information_schema.columns WHERE table_schema = $1""",
    "indexes": "SELECT tablename, replace(indexdef, $1, '') FROM pg_indexes WHERE schemaname = $1",
    "constraints": """
        SELECT conrelid::regclass::text, contype::text, replace(pg_get_constraintdef(oid), $1, '')
        FROM pg_constraint WHERE connamespace = $1::text::regnamespace""",
    "storage": """
        SELECT c.relname, c.reloptions, a.attname, a.attstorage::text, a.attcompression::text
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE c.relnamespace = $1::text::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped""",
}


@pytest.mark.parametrize("name", ["settings", "history", "catalogue"])
async def test_the_tables_of_a_rebuild_are_those_of_the_migrations(tables: Pool, name: str) -> None:
    """Both say what a read model's tables are, so each must say the same."""
    statements = (Path(projections.__file__).parent / name / "tables.sql").read_text()
    async with tables.acquire() as connection, connection.transaction():
        await connection.execute("CREATE SCHEMA rebuilt; SET LOCAL search_path = rebuilt")
        await connection.execute(statements)
        for what, query in _SHAPE.items():
            migrated, rebuilt = [
                sorted(str(tuple(row)).replace(f"{schema}.", "") for row in await connection.fetch(query, schema))
                for schema in (f"{name}_v1", "rebuilt")
            ]
            assert migrated == rebuilt, what
            assert migrated or what == "indexes"

"""A database as the last release left it: this one takes its tables forward, reads what is in them, and can go back.

`tests/releases/last.sql` is of ``switchboard up --demo``; `tests/releases/dump.py` made it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from projections.catalogue import queries as catalogue_queries
from projections.history import queries as history_queries
from projections.settings import queries as settings_queries
from services.gateway.authentication import api_keys
from services.gateway.database_schemas import MIGRATIONS, make_tables
from services.infrastructure.config import Settings
from services.infrastructure.postgres import Pool, pool_of
from services.invoker import delivery_log
from services.invoker.limits import Limits
from services.invoker.queue.claiming import claim
from services.message_router import message_log
from services.message_router.usage_report import UsagePeriod, usage_pages
from tests.installation import fresh_database
from tests.migrations import migrate_down
from tests.servers import Servers

_LAST = Path(__file__).parents[1] / "releases" / "last.sql"
_ACCOUNT, _CHANNEL = "acme", "demo-whatsapp"
_NOT_OURS = "^(pg_|information_schema|public)"
_SHAPE = {
    "columns": """
        SELECT table_schema, table_name, rank() OVER (PARTITION BY table_schema, table_name ORDER BY ordinal_position),
            column_name, data_type, is_nullable, column_default, collation_name, is_generated, generation_expression
        FROM information_schema.columns WHERE table_schema !~ $1""",
    "indexes": "SELECT schemaname, tablename, indexdef FROM pg_indexes WHERE schemaname !~ $1",
    "constraints": """
        SELECT conrelid::regclass::text, contype::text, pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace::regnamespace::text !~ $1""",
    "functions": "SELECT oid::regprocedure::text, prosrc FROM pg_proc WHERE pronamespace::regnamespace::text !~ $1",
    "storage": """
        SELECT c.oid::regclass::text, c.reloptions, a.attname, a.attstorage::text, a.attcompression::text
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE c.relnamespace::regnamespace::text !~ $1 AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped""",
}


async def _pool(dsn: str) -> Pool:
    return await pool_of(Settings.from_environment({"SWITCHBOARD_DATABASE_URL": dsn}), size=2)


@pytest.fixture
async def last(database_url: str) -> AsyncIterator[Pool]:
    """The database of the last release."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(_LAST.read_text())
    await connection.close()  # the dump has changed its search path
    pool = await _pool(database_url)
    yield pool
    await pool.close()


async def shape(pool: Pool) -> dict[str, list[str]]:
    return {
        what: sorted(str(tuple(row)) for row in await pool.fetch(query, _NOT_OURS)) for what, query in _SHAPE.items()
    }


async def contents(pool: Pool) -> dict[str, list[str]]:
    """Every row of every table, as text, without the times of the migrations."""
    tables = await pool.fetch("SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname !~ $1", _NOT_OURS)
    return {
        name: sorted(row[0] for row in await pool.fetch(f"SELECT t::text FROM {name} t"))  # noqa: S608
        for (name,) in tables
        if name != "switchboard.migrations"
    }


async def test_the_tables_become_those_of_a_new_installation(last: Pool, shared_servers: Servers) -> None:
    await make_tables(last)
    new = await _pool(fresh_database(shared_servers.dsn))
    await make_tables(new)
    try:
        assert await shape(last) == await shape(new)
    finally:
        await new.close()


async def test_this_release_reads_and_goes_on_with_what_the_last_one_wrote(last: Pool) -> None:
    await make_tables(last)
    (channel,) = await settings_queries.list_channels(last, _ACCOUNT, "", 10)
    assert (channel.channel, channel.version) == (_CHANNEL, 6)
    async with last.acquire() as connection:
        entries, _ = await history_queries.find(connection, history_queries.Sought(_ACCOUNT, _CHANNEL), 50)
        assert [entry["version"] for entry in entries] == [6, 5, 4, 3, 2, 1]
        async with connection.transaction():
            assert [row["code"] async for row in catalogue_queries.all_intents(connection)] == ["ORDER_STATUS"]
    messages, _ = await message_log.list_messages(last, message_log.MessageFilter(_CHANNEL, _ACCOUNT), 10)
    assert {one["country"] for one in messages} == {"ID", "IN", "SG"}
    period = UsagePeriod(date(2026, 1, 1), date(2027, 1, 1), _ACCOUNT)
    assert [row["messages"] for page in [page async for page in usage_pages(last, period)] for row in page] == [1]
    assert {key.scope.account for key in await api_keys.list_keys(last)} == {_ACCOUNT, None}

    (delivery,) = await delivery_log.newest_of_channel(last, _ACCOUNT, _CHANNEL, 10)
    assert (delivery["state"], [one["status"] for one in delivery["attempt_log"]]) == ("delivered", [200])
    chosen = delivery_log.DeliveryFilter(account=_ACCOUNT, channel=_CHANNEL, states=("delivered",))
    assert await delivery_log.replay(last, chosen, "tests", 1) == [delivery["id"]]
    (claimed,) = await claim(last, "retry", {}, 1, Limits())
    assert (claimed.id, claimed.traceparent, claimed.requester.replays) == (delivery["id"], None, 1)


async def test_it_goes_back_with_every_row(last: Pool) -> None:
    """Downwards what only this release keeps is lost, and nothing else."""
    newest: dict[str, Any] = dict(
        await last.fetch("SELECT owner, max(name) FROM switchboard.migrations GROUP BY owner")
    )
    before = await shape(last), await contents(last)
    await make_tables(last)
    undone = [
        name for owner, made in MIGRATIONS.items() for name in await migrate_down(last, owner, made, to=newest[owner])
    ]
    assert any(undone), "the last release has the tables of this one: there is nothing to try"
    assert (await shape(last), await contents(last)) == before
    await make_tables(last)

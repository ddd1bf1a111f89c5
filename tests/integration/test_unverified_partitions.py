"""A message router works on no partition whose database may have lost commits."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.message_router.outbox import NotVerified
from services.message_router.publisher import VERIFY
from tests.message_router_database import PARTITION, RouterDatabase, message, report, router_database


@pytest.fixture
async def router(database_url: str) -> AsyncIterator[RouterDatabase]:
    async with router_database(database_url) as made:
        yield made


@pytest.mark.parametrize(
    "statements",
    [
        pytest.param(("TRUNCATE {table}",), id="crashed"),
        pytest.param(("UPDATE {table} SET server_started = 'epoch', written_by = DEFAULT",), id="restarted"),
        pytest.param(("UPDATE {table} SET database = 0, written_by = DEFAULT",), id="copied as a template"),
        pytest.param(
            (
                "CREATE TABLE dump AS SELECT * FROM {table}",
                "TRUNCATE {table}",
                "INSERT INTO {table} SELECT * FROM dump",
            ),
            id="restored from a dump",
        ),
    ],
)
async def test_nothing_is_decided_by_a_database_that_may_have_lost_commits(
    router: RouterDatabase, statements: tuple[str, ...]
) -> None:
    await router.settings()
    for statement in statements:
        await router.pool.execute(statement.format(table="message_router.verified_partitions"))
    with pytest.raises(NotVerified):
        await router.apply(message("m1"))
    await router.pool.execute(VERIFY, [PARTITION])
    await router.apply(message("m1"))
    assert await router.told() == [("m1", "MessageRouted", "failed")]


async def test_no_unit_is_taken_while_a_partition_is_not_restored(router: RouterDatabase) -> None:
    """It may have taken the last one before it was lost."""
    await router.settings()
    await router.report(report("pool", units=1))
    await router.pool.execute("DELETE FROM message_router.verified_partitions WHERE partition <> $1", PARTITION)
    with pytest.raises(NotVerified):
        await router.apply(message("m1"))
    await router.apply(message("m2", category="marketing"))
    assert await router.told() == [("m2", "MessageRouted", "not_applicable")]

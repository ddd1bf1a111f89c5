"""Old messages go with their timelines, in batches; what is charged stays, and what still waits for something."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.message_router import retention
from services.message_router.ownership import Ownership
from services.message_router.retention import Retention
from tests.message_router_database import (
    INDIAN,
    PARTITIONS,
    RouterDatabase,
    message,
    now_ms,
    report,
    router_database,
    status,
)

DAY = 24 * 60 * 60 * 1000


@pytest.fixture
async def router(database_url: str) -> AsyncIterator[RouterDatabase]:
    async with router_database(database_url) as made:
        await made.settings(sms=True)
        await made.rate_book(1, "0.5")
        await made.report(report("pool", 3))
        yield made


async def _sweep(router: RouterDatabase, now: int, partitions: range = range(PARTITIONS)) -> None:
    await Retention(router.pool, Ownership(), days=90).run_once(partitions, now)


async def _count(router: RouterDatabase, table: str) -> int:
    return int(await router.pool.fetchval(f"SELECT count(*) FROM message_router.{table}"))  # noqa: S608 -- our names


async def test_old_messages_go_and_what_they_cost_stays(router: RouterDatabase) -> None:
    await router.apply(message("old"), status("old", "sent"), message("new"), status("new", "sent"))
    await router.pool.execute(
        "UPDATE message_router.messages SET requested_at = requested_at - $1 WHERE message = 'old'", 2 * DAY
    )
    before = [tuple(row) for row in await router.pool.fetch("SELECT * FROM message_router.usage")]
    counted = await _count(router, "counters")
    await _sweep(router, now_ms() + 87 * DAY)
    assert await _count(router, "messages") == 2
    await _sweep(router, now_ms() + 89 * DAY)
    for table in ("messages", "statuses", "notices"):
        assert {row[0] for row in await router.pool.fetch(f"SELECT message FROM message_router.{table}")} == {"new"}  # noqa: S608
    assert [tuple(row) for row in await router.pool.fetch("SELECT * FROM message_router.usage")] == before
    assert (before[0][-2], await _count(router, "counters")) == (2, counted)


async def test_what_waits_for_its_settings_or_a_timer_stays(router: RouterDatabase) -> None:
    fallback = {"to": INDIAN, "on": ["failed", "undelivered"], "wait_seconds": 60}
    await router.apply(message("waits", settings_version=9), message("armed", sms_fallback=fallback), message("done"))
    await router.apply(status("done", "failed"))
    await _sweep(router, now_ms() + 91 * DAY)
    assert {row[0] for row in await router.pool.fetch("SELECT message FROM message_router.messages")} == {
        "waits",
        "armed",
    }


async def test_a_backlog_goes_in_batches_and_only_of_the_own_partitions(
    router: RouterDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_BATCH", 3)
    await router.apply(*(message(f"m{number}", category="service") for number in range(10)))
    home = await router.pool.fetchval("SELECT partition FROM message_router.messages LIMIT 1")
    await _sweep(router, now_ms() + 91 * DAY, range(home))
    assert await _count(router, "messages") == 10
    await _sweep(router, now_ms() + 91 * DAY, range(home + 1))
    assert await _count(router, "messages") == 0

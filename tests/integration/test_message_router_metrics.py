"""The message router's metrics, from its database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.message_router.metrics import families
from tests.exposition import exposition
from tests.message_router_database import INDIAN, RouterDatabase, message, now_ms, report, router_database, status
from tests.patience import PATIENCE_S


@pytest.fixture
async def router(database_url: str) -> AsyncIterator[RouterDatabase]:
    async with router_database(database_url) as made:
        await made.settings(sms=True)
        yield made


async def _metrics(router: RouterDatabase) -> dict[str, float]:
    lines = exposition(await families(router.pool)).decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


async def test_what_was_decided_and_what_is_open(router: RouterDatabase) -> None:
    await router.report(report("pool", 3))
    fallback = {"to": INDIAN, "on": ["failed", "undelivered"], "wait_seconds": 60}
    await router.apply(message("m1"), message("m2", sms_fallback=fallback), message("m1"), message("m3"))
    await router.apply(message("m6", sms_fallback=fallback), message("m7", sms_fallback=fallback | {"on": ["unread"]}))
    await router.apply(status("m7", "read"))
    await router.timers.run_once(now_ms())
    await router.apply(message("m4"), message("m5", settings_version=9), message("m1", category="service"))
    await router.apply(status("m1", "sent"), status("m3", "failed"), status("m1", "delivered"))
    found = await _metrics(router)
    expected = {
        'switchboard_message_decisions_total{route="scheduled",rule="ResourceAvailable"}': 3,
        'switchboard_message_decisions_total{route="failed",rule="ResourcesExhausted"}': 3,
        'switchboard_message_requests_refused_total{reason="MessageIdReused"}': 1,
        'switchboard_reservations_settled_total{ended="posted"}': 1,
        'switchboard_reservations_settled_total{ended="voided"}': 1,
        'switchboard_sms_fallbacks_total{result="due"}': 1,
        'switchboard_sms_fallbacks_total{result="Read"}': 1,
        'switchboard_messages_charged_total{country="IN"}': 1,
        'switchboard_scheduling_resource_units{country="IN",resource="pool"}': 1,
        'switchboard_scheduling_resource_stale{country="IN",resource="pool"}': 0,
        "switchboard_reservations_open": 1,
        "switchboard_sms_fallbacks_armed": 1,
        "switchboard_message_timers_overdue_seconds": 0,
        "switchboard_message_requests_waiting": 1,
    }
    assert {name: found.get(name) for name in expected} == expected
    assert found["switchboard_message_records_unpublished"] == 13


async def test_a_timer_that_nobody_applies_is_seen(router: RouterDatabase) -> None:
    await router.report(report("pool", 3))
    await router.apply(message("m1"))
    await router.pool.execute("UPDATE message_router.messages SET next_timer = next_timer - 660000")
    assert 50 < (await _metrics(router))["switchboard_message_timers_overdue_seconds"] < 60 + PATIENCE_S

"""The message router's transactions, on a real database: pools, statuses, timers, waiting, usage."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest

from contracts.usage import MessageCharged
from services.message_router.ownership import NAME
from services.message_router.usage_rollup import fold_usage
from tests.message_router_database import (
    INDIAN,
    PARTITION,
    GrownLog,
    LogWithEnd,
    RouterDatabase,
    command,
    message,
    now_ms,
    report,
    router_database,
    status,
)

MINUTE = 60_000


@pytest.fixture
async def router(database_url: str) -> AsyncIterator[RouterDatabase]:
    async with router_database(database_url) as made:
        yield made


async def test_a_unit_is_reserved_once_and_posted_once(router: RouterDatabase) -> None:
    await router.settings()
    await router.rate_book(1, "0.0136")
    await router.report(report("pool-in-1", 1))
    await router.apply(message("m1"), message("m2"), message("m1"))
    await router.apply(status("m1", "sent"), status("m1", "sent"), status("m1", "delivered"))
    assert await router.told() == [
        ("m1", "MessageRouted", "scheduled"),
        ("m2", "MessageRouted", "failed"),
        ("m1", "DecisionRepeated", ""),
        ("m1", "ReservationSettled", "posted"),
    ]
    [charged] = await router.published("usage")
    assert (charged["data"]["amount"], charged["data"]["currency"], charged["data"]["late"]) == ("0.0136", "AED", False)
    rollup = await router.pool.fetch("SELECT * FROM message_router.usage")
    totals = {
        (r["day"].isoformat(), *[r[c] for c in ("account", "channel", "country", "fee_class", "currency")], ""): (
            r["messages"],
            r["amount"],
        )
        for r in rollup
    }
    assert totals == fold_usage([("acme", "ch", MessageCharged.model_validate(charged["data"]))])


async def test_reasons_for_no_unit_are_told_apart(router: RouterDatabase) -> None:
    await router.settings(own_numbers=True)
    await router.apply(message("none"))
    await router.report(report("pool", 5, as_of=now_ms() - 10 * MINUTE, seconds=60))
    await router.apply(message("stale"))
    await router.report(report("pool", 0))
    await router.apply(message("exhausted"))
    withdrawal = command("x", "x", {}, subject="pool")
    await router.report(type(withdrawal)(None, b"pool"))
    await router.apply(message("withdrawn"))
    rules = [one["data"]["rule"] for one in await router.published()]
    assert rules == ["NoResources", "ResourcesStale", "ResourcesExhausted", "NoResources"]
    assert {one["data"]["route"] for one in await router.published()} == {"own_number"}


async def test_a_report_subtracts_what_was_reserved_since_and_an_older_one_is_ignored(router: RouterDatabase) -> None:
    await router.settings()
    await router.report(report("pool", 2, as_of=now_ms() - MINUTE))
    await router.apply(message("m1"))
    await router.report(report("pool", 2, as_of=now_ms() - 30_000), report("pool", 9, as_of=now_ms() - 2 * MINUTE))
    assert await router.pool.fetchrow("SELECT units, taken FROM message_router.resources") == (2, 1)
    await router.apply(message("m2"), message("m3"))
    assert [one["data"]["route"] for one in await router.published()] == ["scheduled", "scheduled", "failed"]


async def test_a_platform_whose_clock_is_ahead_does_not_free_units(router: RouterDatabase) -> None:
    await router.settings()
    await router.report(report("pool", 1, as_of=now_ms() + 5 * MINUTE))
    await router.apply(message("m1"))
    await router.apply(message("m2"))
    assert [one["data"]["route"] for one in await router.published()] == ["scheduled", "failed"]


async def test_routers_at_once_never_hand_out_a_unit_twice(router: RouterDatabase) -> None:
    await router.settings()
    for channel in ("c1", "c2", "c3", "c4", "c5", "c6"):
        registered = {"channel_type": "whatsapp", "name": "Shop", "enterprise_authenticated": True}
        await router.event("ChannelRegistered", 1, registered, channel)
        scheduling = {"enabled": True, "countries": ["IN"], "use_own_numbers": False}
        await router.event("OtpSchedulingSaved", 2, scheduling, channel)
    await router.report(report("pool-a", 10), report("pool-b", 10))
    content = {"recipient": INDIAN, "category": "authentication"}
    await asyncio.gather(
        *(
            router.apply(*(command("RouteMessage", f"{channel}-{turn}-{n}", content, channel) for n in range(5)))
            for turn in range(2)
            for channel in ("c1", "c2", "c3", "c4", "c5", "c6")
        )
    )
    routes = [one["data"]["route"] for one in await router.published()]
    assert (routes.count("scheduled"), routes.count("failed")) == (20, 40)


async def test_a_reservation_expires_and_a_late_status_posts_it_all_the_same(router: RouterDatabase) -> None:
    await router.settings()
    await router.report(report("pool", 1))
    await router.apply(message("m1"))
    await router.pool.execute("UPDATE message_router.messages SET reserved_until = $1, next_timer = $1", now_ms() - 1)
    await router.timers.run_once(now_ms())
    await router.timers.run_once(now_ms())
    await router.apply(message("m2"), status("m1", "delivered"), status("m1", "read"))
    assert await router.told() == [
        ("m1", "MessageRouted", "scheduled"),
        ("m1", "ReservationSettled", "expired"),
        ("m2", "MessageRouted", "scheduled"),
        ("m1", "ReservationSettled", "posted"),
    ]
    assert [one["data"]["late"] for one in await router.published("usage")] == [True]


async def test_a_failed_message_gives_its_unit_back(router: RouterDatabase) -> None:
    await router.settings()
    await router.report(report("pool", 1))
    await router.apply(message("m1"), status("m1", "failed"), message("m2"))
    assert [told[2] for told in await router.told()] == ["scheduled", "voided", "scheduled"]


async def test_statuses_before_the_decision_wait_for_it(router: RouterDatabase) -> None:
    await router.apply(status("m1", "delivered"), status("m1", "delivered"), message("m1"))
    assert await router.told() == []
    await router.settings()
    await router.report(report("pool", 1))
    await router.resolve(LogWithEnd(-1))
    assert [told[1:] for told in await router.told()] == [
        ("MessageRouted", "scheduled"),
        ("ReservationSettled", "posted"),
    ]
    assert len(await router.published("usage")) == 1
    assert await router.pool.fetchval("SELECT count(*) FROM message_router.waiting_statuses") == 0


async def test_a_status_that_nobody_routed_is_refused_after_a_week(router: RouterDatabase) -> None:
    await router.apply(status("ghost", "sent"))
    await router.timers.sweep(now_ms() + 6 * 24 * 60 * MINUTE)
    assert await router.told() == []
    await router.timers.sweep(now_ms() + 8 * 24 * 60 * MINUTE)
    await router.timers.sweep(now_ms() + 8 * 24 * 60 * MINUTE)
    assert await router.told() == [("ghost", "StatusRefused", "NotRouted")]


async def test_an_unknown_channel_is_refused_only_once_the_log_is_read(router: RouterDatabase) -> None:
    await router.apply(message("m1"), status("m1", "sent"))
    await router.resolve(LogWithEnd(5))
    assert await router.told() == []
    await router.pool.execute("UPDATE message_router.messages SET log_end = -1")
    await router.resolve(LogWithEnd(-1))
    told = [("m1", "RoutingRefused", "ChannelUnknown"), ("m1", "StatusRefused", "NotRouted")]
    assert await router.told() == told
    await router.apply(status("m1", "sent"), status("m1", "sent"))
    assert await router.told() == told


async def test_a_request_of_a_channel_that_moved_waits_for_its_new_partition(router: RouterDatabase) -> None:
    """The message's own partition is that of the router's topics, which do not grow."""
    await router.apply(message("m1"))
    applied = "INSERT INTO switchboard.checkpoints VALUES ($1, 'switchboard.events', $2, 6)"
    await router.pool.execute(applied, NAME, PARTITION)
    await router.resolve(GrownLog(5))
    assert await router.told() == []
    await router.pool.execute(applied, NAME, GrownLog.ADDED)
    await router.resolve(GrownLog(5))
    assert await router.told() == [("m1", "RoutingRefused", "ChannelUnknown")]


async def test_a_decision_waits_for_the_version_that_it_names(router: RouterDatabase) -> None:
    await router.settings()
    await router.apply(message("m1", settings_version=4), message("m2", settings_version=9))
    await router.event("SmsActivated", 4, {})
    await router.resolve(LogWithEnd(-1))
    told = await router.told()
    assert [one[:2] for one in told] == [("m1", "MessageRouted"), ("m2", "RoutingRefused")]
    assert told[1][2] == "SettingsNotKnown"


async def test_the_same_id_with_other_content_is_refused_and_the_first_stands(router: RouterDatabase) -> None:
    await router.settings()
    await router.apply(message("m1"), message("m1", recipient="+6591234567"), message("m1", account="other"))
    assert await router.told() == [("m1", "MessageRouted", "failed"), ("m1", "RoutingRefused", "MessageIdReused")]


async def test_a_fallback_looks_at_the_switch_when_it_fires(router: RouterDatabase) -> None:
    await router.settings(sms=True)
    fallback = {"to": INDIAN, "wait_seconds": 60, "on": ["undelivered"]}
    await router.apply(message("m1", sms_fallback=fallback), message("m2", sms_fallback=fallback))
    for name, version, switch in (("m1", 4, "SmsActivated"), ("m2", 5, "SmsDeactivated")):
        await router.event(switch, version, {})
        await router.pool.execute(
            "UPDATE message_router.messages SET fires_at = 1, next_timer = 1 WHERE message = $1", name
        )
        await router.timers.run_once(now_ms())
        await router.timers.run_once(now_ms())
    assert (await router.told())[2:] == [
        ("m1", "SmsFallbackDue", "undelivered"),
        ("m2", "SmsFallbackWithheld", "undelivered"),
    ]


async def test_no_number_is_kept_but_encrypted_until_settled(router: RouterDatabase) -> None:
    await router.settings(sms=True)
    await router.report(report("pool", 1))
    fallback = {"to": INDIAN, "on": ["failed"]}
    await router.apply(message("m1", sms_fallback=fallback))
    assert await router.pool.fetchval("SELECT fallback_to FROM message_router.messages") is not None
    for table in ("messages", "outbox", "statuses", "waiting_statuses"):
        rows = await router.pool.fetch(f"SELECT * FROM message_router.{table}")  # noqa: S608 -- our names
        assert INDIAN not in "".join(
            value.decode(errors="replace") if isinstance(value, bytes) else str(value)
            for row in rows
            for value in row.values()
        )
    await router.apply(status("m1", "delivered"))
    assert await router.pool.fetchval("SELECT fallback_to FROM message_router.messages") is None


async def test_a_charge_for_a_day_that_is_over_is_a_row_of_its_own(router: RouterDatabase) -> None:
    await router.settings()
    await router.rate_book(1, "0.5")
    await router.report(report("pool", 3))
    await router.apply(message("m1"), message("m2"), message("m3"))
    await router.apply(status("m1", "sent"), status("m2", "sent", at="2026-02-01T10:00:00Z"))
    await router.apply(status("m3", "sent", at="0001-01-01T00:00:00Z"))
    rows = await router.pool.fetch("SELECT correction_of, messages, amount, currency FROM message_router.usage")
    assert sorted(tuple(row) for row in rows) == [
        ("", 1, Decimal("0.5"), "AED"),
        ("1970-01-01", 1, Decimal(0), ""),
        ("2026-02-01", 1, Decimal("0.5"), "AED"),
    ]


async def test_numbers_of_the_outbox_have_no_gaps_and_bad_records_are_answered(router: RouterDatabase) -> None:
    await router.settings()
    bad = message("bad", recipient="12345")
    await router.apply(message("m1"), bad, type(bad)(b"no json"), command("ReportStatus", "s", {"message": "m1"}))
    rows = await router.pool.fetch("SELECT partition, number, topic FROM message_router.outbox ORDER BY 1, 2")
    for partition in {row["partition"] for row in rows}:
        numbers = [row["number"] for row in rows if row["partition"] == partition]
        assert numbers == list(range(1, len(numbers) + 1))
    assert sum(row["topic"] == "switchboard.dead-letters" for row in rows) == 1
    found = [(one["type"], one["data"].get("reason")) for one in await router.published()]
    assert found == [("MessageRouted", None), ("RoutingRefused", "InvalidRequest"), ("StatusRefused", "InvalidRequest")]
    assert "+6591234567" not in json.dumps(await router.published())

"""The spend guard at work, on a real database: the count of a day's messages, and what each mode does with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from contracts.message_routing import MessageRouted, RouteMessage
from services.message_router.dry_run import would_route
from tests.message_router_database import INDIAN, RouterDatabase, message, now_ms, report, router_database


@pytest.fixture
async def router(database_url: str) -> AsyncIterator[RouterDatabase]:
    async with router_database(database_url) as made:
        await made.settings(own_numbers=True)
        yield made


async def guard(router: RouterDatabase, mode: str, sequence: int = 4, **limits: Any) -> None:
    await router.event("SpendGuardSaved", sequence, {"mode": mode, **limits})


async def decisions(router: RouterDatabase) -> list[tuple[str, str, int | None, str | None]]:
    """Message, rule, messages before it today, and the limit that it is over."""
    found = [one["data"] for one in await router.published() if one["type"] == "MessageRouted"]
    return [(one["message"], one["rule"], one["sent_today"], (one["guard"] or {}).get("limit")) for one in found]


async def test_enforcing_sends_so_many_a_day_and_country_and_no_more(router: RouterDatabase) -> None:
    await guard(router, "enforce", daily_messages_per_country=2)
    await router.apply(message("m1"), message("m2", category="marketing"), message("m1"), message("m3"))
    await router.apply(message("m4"), message("elsewhere", "+6281234567890"))
    assert [one for one in await decisions(router) if one[0] != "m2"][-3:] == [
        ("m3", "NoResources", 1, None),
        ("m4", "SpendGuard", 2, "daily_messages_per_country"),
        ("elsewhere", "CountryNotChosen", 0, None),
    ]
    [refused] = [one["data"] for one in await router.published() if one["data"]["message"] == "m4"]
    assert (refused["route"], refused["fee_class"], refused["rate"]) == ("failed", None, None)
    assert "allows 2 authentication messages a day to IN, and 2 were sent today" in refused["sentence"]


async def test_a_refused_message_takes_no_unit_and_is_not_counted(router: RouterDatabase) -> None:
    await router.report(report("pool", 5))
    await guard(router, "enforce", daily_messages_per_country=1)
    await router.apply(message("m1"), message("m2"), message("m3"))
    assert [(rule, sent) for _, rule, sent, _ in await decisions(router)] == [
        ("ResourceAvailable", 0),
        ("SpendGuard", 1),
        ("SpendGuard", 1),
    ]
    assert await router.pool.fetchval("SELECT taken FROM message_router.resources") == 1


async def test_monitoring_decides_as_without_it_and_says_what_enforcing_would_do(router: RouterDatabase) -> None:
    await guard(router, "monitor", daily_messages_per_country=1)
    await router.apply(message("m1"), message("m2"))
    assert await decisions(router) == [
        ("m1", "NoResources", 0, None),
        ("m2", "NoResources", 1, "daily_messages_per_country"),
    ]


async def test_what_was_sent_before_the_guard_was_saved_counts(router: RouterDatabase) -> None:
    await router.apply(message("m1"), message("m2"))
    await guard(router, "enforce", daily_messages_per_country=2)
    await router.apply(message("m3"))
    await guard(router, "off", sequence=5, daily_messages_per_country=2)
    await router.apply(message("m4"))
    assert [rule for _, rule, _, _ in await decisions(router)] == ["NoResources"] * 2 + ["SpendGuard", "NoResources"]


async def test_the_rate_that_is_expected_is_limited(router: RouterDatabase) -> None:
    await router.rate_book(1, "0.06")
    await router.report(report("pool", 5))
    await guard(router, "enforce", max_rate={"amount": "0.05", "currency": "AED"})
    await router.apply(message("dear"))
    await guard(router, "enforce", sequence=5, max_rate={"amount": "0.06", "currency": "AED"})
    await router.apply(message("allowed"))
    assert [(name, rule, limit) for name, rule, _, limit in await decisions(router)] == [
        ("dear", "SpendGuard", "max_rate"),
        ("allowed", "ResourceAvailable", None),
    ]


async def test_a_batch_that_is_rolled_back_counts_nothing(router: RouterDatabase) -> None:
    await guard(router, "enforce", daily_messages_per_country=1)
    async with router.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await router.ingest.apply(connection, 1, [message("m1")])
        await transaction.rollback()
    await router.apply(message("m1"))
    assert await decisions(router) == [("m1", "NoResources", 0, None)]


@pytest.mark.parametrize(("days", "counted"), [(-1, 0), (1, 1)], ids=["yesterday", "clock-stepped-back"])
async def test_a_day_begins_at_zero_and_a_clock_that_steps_back_goes_on(
    router: RouterDatabase, days: int, counted: int
) -> None:
    await guard(router, "monitor", daily_messages_per_country=1)
    await router.apply(message("m1"))
    await router.pool.execute("UPDATE message_router.daily_messages SET day = day + $1::int", days)
    await router.apply(message("m2"), message("m3"))
    assert [sent for _, _, sent, _ in await decisions(router)] == [0, counted, counted + 1]
    assert await router.pool.fetchval("SELECT messages FROM message_router.daily_messages") == counted + 2


async def test_a_dry_run_counts_nothing_and_decides_as_the_decision_after_it(router: RouterDatabase) -> None:
    await guard(router, "enforce", daily_messages_per_country=1)
    for message_id in ("m1", "m2"):
        asked = RouteMessage(recipient=INDIAN, category="authentication")
        dry = await would_route(router.pool, router.rates, "acme", "ch", message_id, asked, now_ms())
        await router.apply(message(message_id))
        assert isinstance(dry, MessageRouted)
        assert (dry.message, dry.rule, dry.sent_today) == (await decisions(router))[-1][:3]
    assert [rule for _, rule, _, _ in await decisions(router)] == ["NoResources", "SpendGuard"]

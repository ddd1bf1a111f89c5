"""Notices of rate changes go out once each, on a real database: over restarts, and with several routers at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from contracts.message import unix_milliseconds
from services.message_router.ownership import Ownership
from services.message_router.rate_book import CurrentRates
from services.message_router.rate_notices import RateNotices
from tests.message_router_database import PARTITIONS, RouterDatabase, router_database


@pytest.fixture
async def router(database_url: str) -> AsyncIterator[RouterDatabase]:
    """Channel ``ch`` chose IN, which turns international on 2026-12-31."""
    async with router_database(database_url) as made:
        await made.settings()
        await made.event("ChannelEdited", 4, {"home_country": "AE", "international_rates_from": {"IN": "2026-12-31"}})
        yield made


def notices(router: RouterDatabase, owned: int = PARTITIONS) -> RateNotices:
    """As a router that was just started."""
    return RateNotices(router.pool, PARTITIONS, Ownership(frozenset(range(owned))), CurrentRates(), lambda _: None)


def at(day: str) -> int:
    return unix_milliseconds(f"{day}T08:00:00Z")


async def told(router: RouterDatabase) -> list[tuple[str, int, str]]:
    return [
        (one["subject"], one["data"]["days"], one["data"]["date"])
        for one in await router.published()
        if one["type"] == "RateChangeAhead"
    ]


async def test_each_notice_goes_out_once_over_restarts_and_among_routers(router: RouterDatabase) -> None:
    await notices(router).run_once(at("2026-11-30"))
    assert await told(router) == []
    for day in ("2026-12-01", "2026-12-02", "2026-12-23"):
        await asyncio.gather(*(notices(router).run_once(at(day)) for _ in range(3)))
    assert await told(router) == [("ch", 30, "2026-12-31")]
    for day in ("2026-12-24", "2026-12-30", "2026-12-31", "2027-01-01"):
        await notices(router).run_once(at(day))
    assert await told(router) == [("ch", 30, "2026-12-31"), ("ch", 7, "2026-12-31")]
    ids = [one["id"] for one in await router.published()]
    assert len(set(ids)) == 2


async def test_a_damaged_channel_keeps_no_notice_of_another_back(router: RouterDatabase) -> None:
    registered = {"channel_type": "whatsapp", "name": "Shop", "enterprise_authenticated": True}
    scheduling = {"enabled": True, "countries": ["IN"], "use_own_numbers": False}
    for number in range(8):
        await router.event("ChannelRegistered", 1, registered, f"c{number}")
        await router.event("OtpSchedulingSaved", 2, scheduling, f"c{number}")
    await router.pool.execute("UPDATE message_router.channels SET spend_guard = '[]' WHERE channel <> 'ch'")
    await notices(router).run_once(at("2026-12-01"))
    assert await told(router) == [("ch", 30, "2026-12-31")]


async def test_a_transaction_that_is_lost_is_made_up_for(router: RouterDatabase) -> None:
    await router.pool.execute("ALTER TABLE message_router.outbox RENAME TO away")
    with pytest.raises(asyncpg.UndefinedTableError):
        await notices(router).run_once(at("2026-12-01"))
    await router.pool.execute("ALTER TABLE message_router.away RENAME TO outbox")
    await notices(router).run_once(at("2026-12-01"))
    assert await told(router) == [("ch", 30, "2026-12-31")]


async def test_a_router_tells_of_the_partitions_that_it_reads(router: RouterDatabase) -> None:
    await notices(router, owned=0).run_once(at("2026-12-01"))
    assert await told(router) == []


async def test_what_is_no_longer_chosen_or_moved_is_told_as_it_is_now(router: RouterDatabase) -> None:
    await router.event("ChannelEdited", 5, {"international_rates_from": {"IN": "2027-01-10"}})
    await notices(router).run_once(at("2026-12-20"))
    await router.event("OtpSchedulingSaved", 6, {"enabled": True, "countries": ["ID"], "use_own_numbers": False})
    await notices(router).run_once(at("2027-01-05"))
    assert await told(router) == [("ch", 30, "2027-01-10")]


async def test_a_notice_says_when_and_what_it_will_cost(router: RouterDatabase) -> None:
    await router.rate_book(3, "0.0136")
    await router.event("ChannelEdited", 5, {"international_rates_from": None})
    await router.pool.execute(
        """UPDATE message_router.rate_books SET book = jsonb_set(book::jsonb, '{rates,1}',
            (book->'rates'->0)::jsonb || '{"amount": "0.02", "from": "2026-12-31"}')::json"""
    )
    await notices(router).run_once(at("2026-12-20"))
    [notice] = [one["data"] for one in await router.published() if one["type"] == "RateChangeAhead"]
    assert notice == {
        "country": "IN",
        "date": "2026-12-31",
        "days": 30,
        "change": "dearer",
        "fee_class": "scheduled",
        "currency": "AED",
        "amount_before": "0.0136",
        "amount_after": "0.02",
        "rate_book": 3,
        "sentence": "From 2026-12-31, the scheduled rate for IN is higher: 0.02 AED instead of 0.0136 AED a message.",
    }

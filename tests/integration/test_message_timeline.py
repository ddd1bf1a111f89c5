"""What the message router keeps and says for whoever asks: repeats, refusals, timelines, lists, usage."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import date

import pytest

from services.message_router import usage_report
from services.message_router.message_log import MessageFilter, get_message, list_messages, parse_page
from services.message_router.resource_list import states_by_country
from services.message_router.usage_report import UsagePeriod, usage_pages
from tests.message_router_database import (
    LogWithEnd,
    RouterDatabase,
    command,
    message,
    now_ms,
    report,
    router_database,
    status,
)


@pytest.fixture
async def router(database_url: str) -> AsyncIterator[RouterDatabase]:
    async with router_database(database_url) as made:
        yield made


async def test_a_repeated_request_gets_its_decision_again_and_reserves_nothing(router: RouterDatabase) -> None:
    await router.settings()
    await router.report(report("pool", 2))
    await router.apply(message("m1"))
    await router.apply(message("m1"))
    routed, repeated = await router.published()
    assert (routed["type"], repeated["type"]) == ("MessageRouted", "DecisionRepeated")
    assert repeated["data"] == {"message": "m1", "routed": routed["data"], "refused": None}
    assert await router.pool.fetchval("SELECT taken FROM message_router.resources") == 1


async def test_a_repeated_request_gets_its_refusal_again(router: RouterDatabase) -> None:
    await router.apply(message("m1"), message("m1"))
    await router.resolve(LogWithEnd(-1))
    await router.apply(message("m1"))
    refused, repeated = await router.published()
    assert repeated["data"] == {"message": "m1", "routed": None, "refused": refused["data"]}


async def test_a_notice_has_its_cause_in_a_header_unless_that_is_no_id(router: RouterDatabase) -> None:
    await router.settings()
    await router.apply(message("m1"), command("RouteMessage", "two\nlines", {}))
    rows = await router.pool.fetch("SELECT headers FROM message_router.outbox ORDER BY number")
    assert [row["headers"][2:] for row in rows] == [["causationid", "m1"], []]


async def test_what_follows_a_decision_is_kept_in_its_order(router: RouterDatabase) -> None:
    await router.settings()
    await router.report(report("pool", 1))
    await router.apply(message("m1"), status("m1", "sent"), status("m1", "read"), status("ghost", "sent"))
    rows = await router.pool.fetch("SELECT message, type, data FROM message_router.notices ORDER BY number")
    assert [(row["message"], row["type"]) for row in rows] == [("m1", "ReservationSettled"), ("m1", "MessageCharged")]
    assert json.loads(rows[0]["data"])["ended"] == "posted"
    shown = await get_message(router.pool, "acme", "ch", "m1")
    assert shown is not None
    assert (shown["state"], sorted(shown["statuses"])) == ("routed", ["chat/read", "chat/sent"])


async def test_pages_of_messages_that_came_in_the_same_millisecond(router: RouterDatabase) -> None:
    await router.settings()
    await router.apply(*(message(f"m{number}") for number in range(7)))
    await router.pool.execute("UPDATE message_router.messages SET requested_at = 5")
    found, page = [], None
    while True:
        messages, following = await list_messages(router.pool, MessageFilter("ch", "acme", before=page), 3)
        found += [one["message"] for one in messages]
        if following is None:
            break
        page = parse_page(following)
    assert found == [f"m{number}" for number in reversed(range(7))]


async def test_a_message_that_waits_shows_its_statuses_and_then_its_refusal(router: RouterDatabase) -> None:
    await router.apply(status("m1", "delivered"), message("m1"))
    waiting = await get_message(router.pool, "acme", "ch", "m1")
    await router.resolve(LogWithEnd(-1))
    refused = await get_message(router.pool, "acme", "ch", "m1")
    assert waiting is not None
    assert refused is not None
    assert (waiting["state"], [one["type"] for one in waiting["timeline"]]) == (
        "waiting",
        ["ReportStatus", "RouteMessage"],
    )
    assert (refused["state"], refused["refusal"]["reason"]) == ("refused", "ChannelUnknown")
    assert await get_message(router.pool, "other", "ch", "m1") is None


async def test_usage_is_the_same_in_pages_of_any_length(
    router: RouterDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    await router.pool.execute(
        "INSERT INTO message_router.usage "
        "SELECT DATE '2026-11-01' + d, 'acme', c, 'IN', 'scheduled', 'AED', r, 1, 0.0136 "
        "FROM generate_series(0, 2) d, unnest($1::text[]) c, unnest($2::text[]) r",
        ["ch-1", "ch-2"],
        ["", "2026-10-31"],
    )

    async def read(first: int, last: int) -> list[tuple[object, ...]]:
        period = UsagePeriod(date(2026, 11, first), date(2026, 11, last), "acme")
        return [tuple(row.values()) async for rows in usage_pages(router.pool, period) for row in rows]

    whole = await read(1, 3)
    monkeypatch.setattr(usage_report, "_ROWS_AT_ONCE", 5)
    assert await read(1, 3) == whole
    assert len(set(whole)) == 12
    assert len(await read(2, 2)) == 4
    assert whole[1] == ("2026-11-01", "acme", "ch-1", "IN", "scheduled", 1, "0.0136", "AED", "2026-10-31")


async def test_a_country_is_available_while_any_of_its_resources_has_a_unit(router: RouterDatabase) -> None:
    await router.report(
        report("a", 0), report("b", 3), report("c", 0, country="SG"), report("d", 1, as_of=0, country="ID")
    )
    assert await states_by_country(router.pool, now_ms()) == [
        {"country": "ID", "state": "stale"},
        {"country": "IN", "state": "available"},
        {"country": "SG", "state": "exhausted"},
    ]

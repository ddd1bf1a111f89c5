"""Requests, statuses and reports that nobody should send: each has an answer, and none stops its partition."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from tests.message_router_database import INDIAN, RouterDatabase, command, message, report, router_database, status


@pytest.fixture
async def router(database_url: str) -> AsyncIterator[RouterDatabase]:
    async with router_database(database_url) as made:
        await made.settings()
        yield made


async def _tables(router: RouterDatabase) -> str:
    """All that the router's tables hold."""
    tables = await router.pool.fetch(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'message_router'"
    )
    found = ""
    for table in tables:
        rows = await router.pool.fetch(f"SELECT * FROM message_router.{table['table_name']}")  # noqa: S608 -- our names
        values = [value for row in rows for value in row.values()]
        found += " ".join(one.decode(errors="replace") if isinstance(one, bytes) else str(one) for one in values)
    return found


@pytest.mark.parametrize("version", [0, -1, 2**53, 10**30])
async def test_a_settings_version_that_no_channel_reaches_is_refused(router: RouterDatabase, version: int) -> None:
    await router.apply(message("m1", settings_version=version), message("m2"))
    told = sorted(await router.told())
    assert told == [("m1", "RoutingRefused", "InvalidRequest"), ("m2", "MessageRouted", "failed")]


@pytest.mark.parametrize("key", [b"\x00", b"pool\x00", b"\xff", b"", None])
async def test_a_withdrawal_of_what_cannot_be_a_resource_changes_nothing(
    router: RouterDatabase, key: bytes | None
) -> None:
    withdrawal = command("x", "x", {})
    await router.report(report("pool", 1), type(withdrawal)(None, key))
    await router.apply(message("m1"))
    assert await router.told() == [("m1", "MessageRouted", "scheduled")]


async def test_an_unreadable_request_becomes_a_dead_letter_without_the_number_that_it_may_hold(
    router: RouterDatabase,
) -> None:
    cut_off = message("m1").value
    assert cut_off is not None
    cut_off = cut_off[:-3]
    assert INDIAN.encode() in cut_off
    await router.apply(type(message("m1"))(cut_off))
    [letter] = await router.pool.fetch("SELECT * FROM message_router.outbox WHERE topic = 'switchboard.dead-letters'")
    headers = dict(zip(letter["headers"][::2], letter["headers"][1::2], strict=True))
    assert (letter["value"], headers["omitted"], headers["offset"]) == (None, str(len(cut_off)), "41")
    assert INDIAN not in await _tables(router)


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (f"recipient {INDIAN} is not on WhatsApp", "recipient … is not on WhatsApp"),
        ("(131026) 91 98123-45678 undeliverable", "(131026) … undeliverable"),
        ("error 131026, subcode 2494010", "error 131026, subcode …"),
        ("code 131026", "code 131026"),
    ],
)
async def test_the_words_of_a_chat_app_are_kept_without_numbers(router: RouterDatabase, error: str, kept: str) -> None:
    failed = {"status": "failed", "via": "chat", "at": "2026-11-26T08:00:00Z", "error": error}
    await router.apply(message("m1"), command("ReportStatus", "s1", {"message": "m1", **failed}))
    await router.apply(command("ReportStatus", "s2", {"message": "ghost", **failed}))
    assert await router.pool.fetchval("SELECT error FROM message_router.statuses") == kept
    assert await router.pool.fetchval("SELECT error FROM message_router.waiting_statuses") == kept


async def test_a_refusal_repeats_no_number_from_the_name_of_a_field(router: RouterDatabase) -> None:
    await router.apply(command("RouteMessage", "m1", {INDIAN: True}))
    sentences = [one["data"]["sentence"] for one in await router.published()]
    assert "'data.…' is not a known field" in sentences[0]
    assert INDIAN not in json.dumps(sentences)


async def test_statuses_wait_no_longer_because_they_were_looked_at(router: RouterDatabase) -> None:
    await router.apply(message("m1", settings_version=9), status("m1", "sent"))
    received_at = await router.pool.fetchval("SELECT received_at FROM message_router.waiting_statuses")
    await router.event("SmsActivated", 9, {})
    await router.apply(status("m1", "delivered"))  # the request is decidable now, and not decided by this
    kept = await router.pool.fetch("SELECT status, received_at FROM message_router.waiting_statuses ORDER BY number")
    assert [row["status"] for row in kept] == ["sent", "delivered"]
    assert kept[0]["received_at"] == received_at

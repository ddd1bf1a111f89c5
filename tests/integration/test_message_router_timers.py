"""The message router's timers on a real database: whose they are, what they wait for, and by which clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from services.message_router import timers
from services.message_router.ownership import NAME, Ownership
from services.message_router.timers import Timers
from tests.message_router_database import (
    INDIAN,
    PARTITION,
    PARTITIONS,
    GrownLog,
    LogWithEnd,
    RouterDatabase,
    message,
    now_ms,
    report,
    router_database,
    status,
)

FALLBACK = {"to": INDIAN, "on": ["failed"]}


@pytest.fixture
async def router(database_url: str) -> AsyncIterator[RouterDatabase]:
    async with router_database(database_url) as made:
        await made.settings(sms=True)
        yield made


def _timers(router: RouterDatabase, log_end: int = -1, owned: Ownership | None = None) -> Timers:
    ownership = owned or Ownership(frozenset({PARTITION}))
    return Timers(router.pool, LogWithEnd(log_end), NAME, ownership, router.rates, lambda _: None)


async def _applied(router: RouterDatabase, next_offset: int, partition: int = PARTITION) -> None:
    await router.pool.execute(
        "INSERT INTO switchboard.checkpoints VALUES ($1, 'switchboard.events', $2, $3) "
        "ON CONFLICT (consumer, topic, partition) DO UPDATE SET next_offset = excluded.next_offset",
        NAME,
        partition,
        next_offset,
    )


async def test_a_fallback_waits_for_the_events_that_the_router_missed(router: RouterDatabase) -> None:
    await router.apply(message("m1", sms_fallback=FALLBACK), status("m1", "failed"))
    catching_up = _timers(router, log_end=7)
    await _applied(router, 7)
    await catching_up.run_once(now_ms())
    assert [told[1] for told in await router.told()] == ["MessageRouted"]
    await router.event("SmsDeactivated", 4, {})  # at offset 7
    await _applied(router, 8)
    await catching_up.run_once(now_ms())
    assert await router.told() == [("m1", "MessageRouted", "failed"), ("m1", "SmsFallbackWithheld", "failed")]


async def test_a_fallback_waits_for_the_events_on_a_partition_that_was_added(router: RouterDatabase) -> None:
    """A channel's settings may have moved there; its messages stay."""
    await router.apply(message("m1", sms_fallback=FALLBACK), status("m1", "failed"))
    ownership = Ownership(frozenset({PARTITION}))
    catching_up = Timers(router.pool, GrownLog(7), NAME, ownership, router.rates, lambda _: None)
    await _applied(router, 8)
    await catching_up.run_once(now_ms())
    assert [told[1] for told in await router.told()] == ["MessageRouted"]
    await router.event("SmsDeactivated", 4, {})
    await _applied(router, 8, GrownLog.ADDED)
    await catching_up.run_once(now_ms())
    assert await router.told() == [("m1", "MessageRouted", "failed"), ("m1", "SmsFallbackWithheld", "failed")]


async def test_a_steady_stream_of_events_does_not_hold_up_the_timers(router: RouterDatabase) -> None:
    """What was looked at once need not be caught up with again."""
    await router.apply(message("m1", sms_fallback=FALLBACK))
    log = LogWithEnd(7)
    catching_up = Timers(router.pool, log, NAME, Ownership(frozenset({PARTITION})), router.rates, lambda _: None)
    await _applied(router, 7)
    await catching_up.run_once(now_ms())
    object.__setattr__(log, "last", 9)
    await _applied(router, 8)
    await catching_up.run_once(now_ms())
    assert [told[1] for told in await router.told()] == ["MessageRouted", "SmsFallbackDue"]


@pytest.mark.parametrize("checkpoint", [8, 7])
async def test_while_there_is_a_backlog_timers_go_with_its_batches(
    router: RouterDatabase, checkpoint: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless the database lost the events that they waited for."""
    monkeypatch.setattr(timers, "_BACKLOG", 1)
    router.use(_timers(router, log_end=7))
    await router.apply(message("m1", sms_fallback=FALLBACK))
    await _applied(router, 8)
    assert await router.timers.run_once(now_ms()) == 0
    await _applied(router, checkpoint)
    await router.apply(message("m2"))
    fallbacks = ["SmsFallbackDue"] if checkpoint == 8 else []
    assert [told[1] for told in await router.told()] == ["MessageRouted", *fallbacks, "MessageRouted"]


async def test_a_timer_that_raises_is_no_fault_of_the_batch(
    router: RouterDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raises(*_: object) -> None:
        raise LookupError

    monkeypatch.setattr(timers, "_BACKLOG", 1)
    monkeypatch.setattr(timers, "handle_timer", raises)
    await router.apply(message("m1", sms_fallback=FALLBACK))
    await router.timers.run_once(now_ms())
    with pytest.raises(timers.TimerRaised):
        await router.apply(message("m2"))
    await router.apply(message("m2"))
    await router.timers.run_once(now_ms())  # by itself, it is put off
    assert [told[0] for told in await router.told()] == ["m1", "m2"]
    assert await router.pool.fetchval("SELECT min(next_timer) FROM message_router.messages") > now_ms()


async def test_timers_of_others_are_applied_once_they_are_overdue(router: RouterDatabase) -> None:
    await router.apply(message("m1", sms_fallback=FALLBACK))
    due = await router.pool.fetchval("SELECT next_timer FROM message_router.messages")
    others = _timers(router, owned=Ownership(frozenset({(PARTITION + 1) % PARTITIONS})))
    assert await others.run_once(due + 400) == 0
    assert await others.run_once(due + 600) == 1
    assert [told[1] for told in await router.told()] == ["MessageRouted", "SmsFallbackDue"]


async def test_a_router_whose_clock_is_behind_hands_out_no_unit_twice(router: RouterDatabase) -> None:
    ahead = now_ms() + 60_000
    await router.report(replace(report("pool", 1, as_of=ahead), timestamp=ahead))
    await router.apply(message("m1"))
    await router.apply(message("m2"))
    assert [told[2] for told in await router.told()] == ["scheduled", "failed"]


async def test_a_unit_counts_as_taken_after_a_report_that_came_before_the_request(router: RouterDatabase) -> None:
    """By the broker's times, whatever the router's clock says."""
    asked_at = now_ms() + 60_000
    await router.report(report("pool", 1))
    await router.apply(replace(message("m1"), timestamp=asked_at))
    await router.report(replace(report("pool", 1, as_of=asked_at - 1), timestamp=asked_at + 1))
    await router.apply(message("m2"))
    assert [told[2] for told in await router.told()] == ["scheduled", "failed"]

"""What recorded decisions would have been: the same under the same settings, and else as the route function says."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from contracts.message import unix_milliseconds
from contracts.rates import ApplyRateBook, Rate
from services.domain.message_routing.country import Country
from services.domain.message_routing.rates import NO_RATES, Rates
from services.domain.message_routing.route import (
    Message,
    NoUnit,
    Pool,
    RoutingSettings,
    SpendGuard,
    Unit,
    needs_count,
    needs_unit,
    route,
)
from services.domain.message_routing.what_if import RecordedDecision, WhatIf

NOON = unix_milliseconds("2026-11-26T12:00:00Z")
DAY = 24 * 60 * 60 * 1000
UNIT, EXHAUSTED = Unit("pool-in-1", "+911234567890"), NoUnit("ResourcesExhausted")


def book(**amounts: str) -> Rates:
    """A rate for IN and ID by fee class."""
    rates = [
        Rate.model_validate(
            {"country": country, "fee_class": kind, "currency": "AED", "amount": amount, "from": "2026-01-01"}
        )
        for country in ("IN", "ID")
        for kind, amount in amounts.items()
    ]
    return Rates.of(ApplyRateBook(version=1, rates=tuple(rates)))


RATES = book(scheduled="0.01", authentication="0.02", marketing="0.05")
SETTINGS = RoutingSettings(1, "whatsapp", scheduling_enabled=True, countries=frozenset({"IN"}), use_own_numbers=True)


def recorded(
    settings: RoutingSettings, message: Message, pool: Pool, rates: Rates = RATES, sent: int | None = None
) -> RecordedDecision:
    """As the router would have decided and recorded it."""
    decision = route(settings, message, pool, rates, sent)
    rate = None if decision.rate is None else (decision.rate.amount, decision.rate.currency)
    seen = pool if needs_unit(settings, message) else None
    return RecordedDecision(message.category, message.country, message.now, decision.route, rate, seen)


def to(country: str | None, now: int = NOON, category: Any = "authentication") -> Message:
    return Message(category, Country(country, "phone-number"), now)


settings_of = st.builds(
    lambda on, countries, own, mode, daily, most: replace(
        SETTINGS,
        scheduling_enabled=on,
        countries=frozenset(countries),
        use_own_numbers=own,
        spend_guard=SpendGuard(mode, None if most is None else (Decimal(most), "AED"), daily),
    ),
    st.booleans(),
    st.sets(st.sampled_from(["IN", "ID"])),
    st.booleans(),
    st.sampled_from(["off", "monitor", "enforce"]),
    st.none() | st.integers(0, 3),
    st.sampled_from([None, "0.015", "0.02"]),
)
messages = st.lists(
    st.tuples(
        st.sampled_from(["IN", "ID", None]),
        st.sampled_from(["authentication", "marketing"]),
        st.sampled_from([UNIT, EXHAUSTED]),
        st.integers(0, 2),
    ),
    max_size=25,
).map(lambda several: sorted(several, key=lambda one: one[3]))


@given(settings_of, messages)
def test_the_same_settings_and_rates_change_nothing(settings: RoutingSettings, several: list[Any]) -> None:
    replay = WhatIf(settings, RATES)
    sent: dict[tuple[str | None, int], int] = {}
    for country, category, pool, day in several:
        message, key = to(country, NOON + day * DAY, category), (country, day)
        limited = country is not None and needs_count(settings.spend_guard, category)
        one = recorded(settings, message, pool, sent=sent.get(key, 0) if limited else None)
        if category == "authentication" and one.route != "failed":
            sent[key] = sent.get(key, 0) + 1
        replay.add(one)
    for totals in replay.countries.values():
        assert not totals.changes
        assert totals.unknown == 0
        assert totals.before == totals.after
    assert sum(totals.messages for totals in replay.countries.values()) == len(several)


@given(settings_of, settings_of, messages)
def test_every_message_is_told_once(before: RoutingSettings, after: RoutingSettings, several: list[Any]) -> None:
    """Unknown are exactly those of which the recorded decision did not see the pool and the new one would."""
    replay = WhatIf(after, RATES)
    unknown = 0
    for country, category, pool, _ in several:
        message = to(country, category=category)
        replay.add(recorded(before, message, pool, sent=0))
        unknown += needs_unit(after, message) and not needs_unit(before, message)
    assert sum(totals.unknown for totals in replay.countries.values()) == unknown
    changed = sum(sum(totals.changes.values()) for totals in replay.countries.values())
    assert changed <= len(several) - unknown


def test_without_own_numbers_what_had_no_unit_fails_and_costs_nothing() -> None:
    replay = WhatIf(replace(SETTINGS, use_own_numbers=False), RATES)
    for pool in (UNIT, EXHAUSTED, EXHAUSTED):
        replay.add(recorded(SETTINGS, to("IN"), pool))
    totals = replay.countries["IN"]
    assert totals.changes == {("own_number", "failed"): 2}
    assert (totals.before, totals.after) == ({"AED": Decimal("0.05")}, {"AED": Decimal("0.01")})


def test_a_country_that_is_newly_chosen_is_unknown() -> None:
    replay = WhatIf(replace(SETTINGS, countries=frozenset({"ID", "IN"})), RATES)
    replay.add(recorded(SETTINGS, to("ID"), UNIT))
    totals = replay.countries["ID"]
    assert (totals.unknown, totals.changes, totals.before) == (1, {}, {})


def test_a_daily_limit_is_counted_anew_each_day_and_country() -> None:
    guarded = replace(SETTINGS, spend_guard=SpendGuard("enforce", daily_messages_per_country=1))
    replay = WhatIf(guarded, RATES)
    for country, now in (("IN", NOON), ("IN", NOON), ("ID", NOON), ("IN", NOON + DAY), ("IN", NOON + DAY)):
        replay.add(recorded(SETTINGS, to(country, now), UNIT))
    assert replay.countries["IN"].changes == {("scheduled", "failed"): 2}
    assert not replay.countries["ID"].changes


def test_a_daily_limit_does_not_concern_a_recipient_without_country() -> None:
    guarded = replace(SETTINGS, spend_guard=SpendGuard("enforce", daily_messages_per_country=0))
    replay = WhatIf(guarded, RATES)
    replay.add(recorded(guarded, to(None), UNIT))
    assert not replay.countries[None].changes


def test_other_rates_change_the_cost_alone_and_a_missing_one_is_told() -> None:
    dearer = WhatIf(SETTINGS, book(scheduled="0.03"))
    dearer.add(recorded(SETTINGS, to("IN"), UNIT))
    dearer.add(recorded(SETTINGS, to("IN"), EXHAUSTED))
    totals = dearer.countries["IN"]
    assert (totals.changes, totals.unpriced) == ({}, 1)
    assert (totals.before, totals.after) == ({"AED": Decimal("0.01")}, {"AED": Decimal("0.03")})
    none = WhatIf(SETTINGS, NO_RATES)
    none.add(recorded(SETTINGS, to("IN"), UNIT, NO_RATES))
    assert none.countries["IN"].unpriced == 1

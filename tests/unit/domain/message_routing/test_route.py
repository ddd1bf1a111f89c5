"""The route of a message: a table over every combination, and what must hold for all of them."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.message_routing import FeeClass
from contracts.rates import ApplyRateBook, Rate
from contracts.spend_guard import GuardMode
from services.domain.message_routing.country import Country
from services.domain.message_routing.rates import NO_RATES, Rates
from services.domain.message_routing.route import (
    RESERVATION_MS,
    Decision,
    Message,
    NoUnit,
    Pool,
    RoutingSettings,
    SpendGuard,
    Unit,
    needs_unit,
    route,
)

NOW = int(datetime(2026, 11, 26, 8, tzinfo=UTC).timestamp() * 1000)
UNIT = Unit("pool-in-1", "+911234567890")
POOLS: dict[str, Pool] = {
    "unit": UNIT,
    "none": NoUnit("NoResources"),
    "stale": NoUnit("ResourcesStale"),
    "exhausted": NoUnit("ResourcesExhausted"),
}
GUARDS = {
    "off": SpendGuard(),
    "monitor": SpendGuard("monitor", daily_messages_per_country=10),
    "enforce": SpendGuard("enforce", daily_messages_per_country=10),
}
ELIGIBILITY: dict[str, dict[str, Any]] = {
    "not eligible": {},
    "eligible": {"home_country": "AE", "international_rates_from": {"IN": "2026-11-26"}},
    "later": {"home_country": "AE", "international_rates_from": {"IN": "2026-11-27"}},
    "at home": {"home_country": "IN", "international_rates_from": {"IN": "2026-01-01"}},
}
INTERNATIONAL: FeeClass = "authentication-international"
RATES = Rates.of(
    ApplyRateBook(
        version=3,
        rates=(
            Rate(country="IN", fee_class="scheduled", currency="AED", amount="0.0100", from_="2026-01-01"),
            Rate(country="IN", fee_class="authentication", currency="AED", amount="0.0136", from_="2026-01-01"),
            Rate(
                country="IN",
                fee_class="authentication-international",
                currency="AED",
                amount="0.35",
                from_="2026-01-01",
            ),
        ),
    )
)

COMBINATIONS = list(
    itertools.product(
        ("whatsapp", "viber", "messenger", "instagram", "telegram", "line"),
        ("authentication", "marketing", "utility", "service"),
        (True, False),  # scheduling
        ("chosen", "not chosen", "no country"),
        POOLS,
        (True, False),  # own numbers
        ELIGIBILITY,
        GUARDS,
        (9, 10),  # sent today, below and at the limit
    )
)


def _case(combination: tuple[Any, ...]) -> tuple[RoutingSettings, Message, Pool, int]:
    channel_type, category, on, chosen, pool, own, eligibility, guard, sent_today = combination
    settings = RoutingSettings(
        version=7,
        channel_type=channel_type,
        scheduling_enabled=on,
        countries=frozenset({"IN"} if chosen == "chosen" else {"ID"}),
        use_own_numbers=own,
        spend_guard=GUARDS[guard],
        **ELIGIBILITY[eligibility],
    )
    country = Country(None if chosen == "no country" else "IN", "phone-number")
    return settings, Message(category, country, NOW), POOLS[pool], sent_today


def _expected(combination: tuple[Any, ...]) -> tuple[str, str, str | None]:
    """Route, rule and fee class, read off the specification's table."""
    channel_type, category, on, chosen, pool, own, eligibility, guard, sent_today = combination
    missing = {"none": "NoResources", "stale": "ResourcesStale", "exhausted": "ResourcesExhausted"}
    international = category == "authentication" and chosen != "no country" and eligibility == "eligible"
    normal = "authentication-international" if international else category
    if channel_type != "whatsapp":
        expected = ("not_applicable", "ChannelNotWhatsApp", normal)
    elif category != "authentication":
        expected = ("not_applicable", "CategoryNotAuthentication", normal)
    elif not on:
        expected = ("not_applicable", "SchedulingOff", normal)
    elif chosen == "no country":
        expected = ("not_applicable", "RecipientHasNoCountry", normal)
    elif chosen == "not chosen":
        expected = ("not_applicable", "CountryNotChosen", normal)
    elif pool == "unit":
        expected = ("scheduled", "ResourceAvailable", "scheduled")
    elif own:
        expected = ("own_number", missing[pool], normal)
    else:
        return "failed", missing[pool], None
    over = category == "authentication" and sent_today == 10
    return ("failed", "SpendGuard", None) if guard == "enforce" and over else expected


def test_every_combination_has_the_route_rule_and_fee_class_of_the_specification() -> None:
    for combination in COMBINATIONS:
        decision = route(*_case(combination)[:3], RATES, _case(combination)[3])
        assert (decision.route, decision.rule, decision.fee_class) == _expected(combination), combination


def test_a_decision_never_sends_where_the_settings_forbid_it() -> None:
    for combination in COMBINATIONS:
        settings, message, pool, sent_today = _case(combination)
        decision = route(settings, message, pool, RATES, sent_today)
        if decision.route == "scheduled":
            assert settings.channel_type == "whatsapp"
            assert settings.scheduling_enabled
            assert message.country.code in settings.countries
        if decision.route == "own_number":
            assert settings.use_own_numbers
        assert (decision.unit is not None) == (decision.route == "scheduled") == (decision.reserved_until is not None)
        assert decision.unit is None or decision.reserved_until == NOW + RESERVATION_MS


def test_monitoring_decides_as_without_the_guard_and_says_what_enforcing_would_do() -> None:
    for combination in COMBINATIONS:
        if combination[7] != "monitor":
            continue
        settings, message, pool, sent_today = _case(combination)
        enforced = route(*_case((*combination[:7], "enforce", sent_today))[:3], RATES, sent_today)
        unguarded = route(*_case((*combination[:7], "off", sent_today))[:3], RATES, sent_today)
        monitored = route(settings, message, pool, RATES, sent_today)
        assert monitored._replace(guard=None) == unguarded
        assert (monitored.guard is not None) == (enforced.rule == "SpendGuard")


def test_the_pool_is_looked_at_only_where_scheduling_concerns_the_message() -> None:
    for combination in COMBINATIONS:
        settings, message, pool, sent_today = _case(combination)
        if not needs_unit(settings, message):
            others = {route(settings, message, other, RATES, sent_today) for other in POOLS.values()}
            assert others == {route(settings, message, pool, RATES, sent_today)}


@given(st.sampled_from(COMBINATIONS))
def test_deciding_again_from_the_same_gives_the_same(combination: tuple[Any, ...]) -> None:
    settings, message, pool, sent_today = _case(combination)
    first = route(settings, message, pool, RATES, sent_today)
    assert route(settings, message, pool, RATES, sent_today) == first


def _decide(rates: Rates = RATES, **changes: Any) -> Decision:
    settings = RoutingSettings(
        version=1,
        channel_type="whatsapp",
        scheduling_enabled=True,
        countries=frozenset({"IN"}),
        use_own_numbers=True,
        home_country="AE",
        **changes,
    )
    return route(settings, Message("authentication", Country("IN", "phone-number"), NOW), NoUnit("NoResources"), rates)


def test_the_expected_rate_is_the_books_and_none_where_it_has_none() -> None:
    rate = _decide().rate
    assert rate is not None
    assert (rate.amount, rate.currency, rate.since) == (Decimal("0.0136"), "AED", date(2026, 1, 1))
    assert _decide(NO_RATES).rate is None


@pytest.mark.parametrize(
    ("most", "route_"), [((Decimal("0.0136"), "AED"), "own_number"), ((Decimal("0.0135"), "AED"), "failed")]
)
def test_a_rate_above_the_limit_is_refused_and_one_at_the_limit_is_not(most: tuple[Decimal, str], route_: str) -> None:
    assert _decide(spend_guard=SpendGuard("enforce", max_rate=most)).route == route_


@pytest.mark.parametrize(("mode", "route_"), [("enforce", "failed"), ("monitor", "own_number"), ("off", "own_number")])
def test_a_rate_in_another_currency_counts_as_above_the_limit(mode: GuardMode, route_: str) -> None:
    decision = _decide(spend_guard=SpendGuard(mode, max_rate=(Decimal(1000), "EUR")))
    assert decision.route == route_
    assert (decision.guard is None) is (mode == "off")
    assert decision.guard is None or (
        decision.guard.sentence == "The expected rate of 0.0136 AED is in another currency than the spend guard's "
        "1000 EUR, so it is not allowed."
    )


def test_a_rate_that_the_book_does_not_have_is_not_above_the_limit() -> None:
    guard = SpendGuard("enforce", max_rate=(Decimal("0.0001"), "EUR"))
    assert _decide(NO_RATES, spend_guard=guard).route == "own_number"


def test_a_later_entry_of_the_book_counts_from_its_day() -> None:
    book = ApplyRateBook(
        version=1,
        rates=(
            Rate(country="IN", fee_class="authentication", currency="AED", amount="1", from_="2026-01-01"),
            Rate(country="IN", fee_class="authentication", currency="AED", amount="2", from_="2026-11-26"),
            Rate(country="IN", fee_class="authentication", currency="AED", amount="3", from_="2026-11-27"),
        ),
    )
    rate = _decide(Rates.of(book)).rate
    assert rate is not None
    assert rate.amount == 2

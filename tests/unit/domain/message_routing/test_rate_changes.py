"""What will cost more soon is told 30 and 7 days before."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest

from contracts.rates import ApplyRateBook, Rate
from services.domain.message_routing.rate_changes import changes_ahead
from services.domain.message_routing.rates import NO_RATES, Rates
from services.domain.message_routing.route import RoutingSettings

ON = date(2026, 12, 1)


def book(*rows: tuple[str, str, str]) -> Rates:
    """Rates for IN: fee class, amount, from."""
    rates = [
        Rate.model_validate({"country": "IN", "fee_class": kind, "currency": "AED", "amount": amount, "from": since})
        for kind, amount, since in rows
    ]
    return Rates.of(ApplyRateBook(version=1, rates=tuple(rates)))


def told(rates: Rates, days_before: int, **changes: Any) -> list[tuple[int, str, str]]:
    """Days, change and fee class of what is told so many days before `ON`."""
    settings = RoutingSettings(1, "whatsapp", scheduling_enabled=True, countries=frozenset({"IN"}), home_country="AE")
    for name, value in changes.items():
        object.__setattr__(settings, name, value)
    found = changes_ahead(settings, rates, ON - timedelta(days=days_before))
    assert {change.on for change in found} <= {ON}
    return [(change.days, change.change, change.fee_class) for change in found]


DEARER = book(("scheduled", "0.01", "2026-01-01"), ("scheduled", "0.02", "2026-12-01"))
STARTS = {"IN": "2026-12-01", "BD": "2026-12-01"}


@pytest.mark.parametrize(
    ("days_before", "notice"), [(31, None), (30, 30), (8, 30), (7, 7), (1, 7), (0, None), (-1, None)]
)
def test_each_notice_has_its_time(days_before: int, notice: int | None) -> None:
    assert [days for days, _, _ in told(DEARER, days_before)] == ([] if notice is None else [notice])
    international = told(NO_RATES, days_before, international_rates_from=STARTS)
    assert [days for days, _, _ in international] == ([] if notice is None else [notice])


def test_a_chosen_country_turns_international_for_a_business_based_elsewhere() -> None:
    expected = [(30, "international", "authentication-international")]
    assert told(NO_RATES, 20, international_rates_from=STARTS) == expected
    assert told(NO_RATES, 20, international_rates_from=STARTS, home_country=None) == expected
    assert told(NO_RATES, 20, international_rates_from=STARTS, home_country="IN") == []
    assert told(NO_RATES, 20, international_rates_from={"BD": "2026-12-01"}) == []


def test_the_rates_before_and_after_are_those_of_own_numbers() -> None:
    rates = book(("authentication", "0.0136", "2026-01-01"), ("authentication-international", "0.3526", "2026-10-01"))
    settings = RoutingSettings(1, "whatsapp", True, frozenset({"IN"}), international_rates_from=STARTS)  # noqa: FBT003
    [change] = changes_ahead(settings, rates, date(2026, 11, 20))
    assert (str(change.before and change.before.amount), str(change.after and change.after.amount)) == (
        "0.0136",
        "0.3526",
    )


def test_only_what_the_channel_would_pay_is_told() -> None:
    rates = book(("authentication", "0.01", "2026-01-01"), ("authentication", "0.02", "2026-12-01"))
    assert told(rates, 20) == []
    assert told(rates, 20, use_own_numbers=True) == [(30, "dearer", "authentication")]
    abroad = {"use_own_numbers": True, "international_rates_from": {"IN": "2026-01-01"}}
    assert told(rates, 20, **abroad) == []
    assert told(DEARER, 20, scheduling_enabled=False) == []
    assert told(DEARER, 20, countries=frozenset({"ID"})) == []


@pytest.mark.parametrize("amount", ["0.01", "0.0100", "0.009"])
def test_what_does_not_become_dearer_is_not_told(amount: str) -> None:
    assert told(book(("scheduled", "0.01", "2026-01-01"), ("scheduled", amount, "2026-12-01")), 20) == []
    assert told(book(("scheduled", "0.02", "2026-12-01")), 20) == [], "the first rate of all is no change"

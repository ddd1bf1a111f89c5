"""What will cost more soon: chosen countries that turn international, or dearer. Pure; days are UTC dates."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Literal, NamedTuple

from contracts.message_routing import FeeClass
from services.domain.message_routing.rates import RateEntry, Rates, is_international
from services.domain.message_routing.route import RoutingSettings

NoticeDays = Literal[30, 7]
_CLASSES: tuple[FeeClass, ...] = ("scheduled", "authentication", "authentication-international")
_FIRST_NOTICE, _LAST_NOTICE = 30, 7


class RateChange(NamedTuple):
    """``days`` is the notice that is due. The rates are the book's, None where it has none."""

    country: str
    on: date
    days: NoticeDays
    change: Literal["international", "dearer"]
    fee_class: FeeClass
    before: RateEntry | None
    after: RateEntry | None


def changes_ahead(settings: RoutingSettings, rates: Rates, today: date) -> list[RateChange]:
    """The changes for which a notice is due: 30 days before, and again 7 days before.

    One that becomes known later is told at once, by the notice of the time that is left.
    """
    if not settings.scheduling_enabled:
        return []
    return [change for country in sorted(settings.countries) for change in _of_country(settings, country, rates, today)]


def _of_country(settings: RoutingSettings, country: str, rates: Rates, today: date) -> Iterator[RateChange]:
    last_day = today + timedelta(days=_FIRST_NOTICE)
    starts = settings.international_rates_from.get(country)
    turns = None if starts is None or country == settings.home_country else date.fromisoformat(starts)
    if turns is not None and today < turns <= last_day:
        before = rates.on(turns - timedelta(days=1), country, "authentication")
        after = rates.on(turns, country, "authentication-international")
        days = _notice(turns, today)
        yield RateChange(country, turns, days, "international", "authentication-international", before, after)
    for fee_class in _CLASSES:
        for entry in rates.entries_between(country, fee_class, today, last_day):
            before = rates.on(entry.since - timedelta(days=1), country, fee_class)
            concerned = fee_class == "scheduled" or _own_numbers_pay(settings, country, fee_class, entry.since)
            if concerned and _is_dearer(before, entry):
                yield RateChange(country, entry.since, _notice(entry.since, today), "dearer", fee_class, before, entry)


def _is_dearer(before: RateEntry | None, after: RateEntry) -> bool:
    """Rates in two currencies cannot be compared."""
    return before is not None and before.currency == after.currency and after.amount > before.amount


def _own_numbers_pay(settings: RoutingSettings, country: str, fee_class: FeeClass, day: date) -> bool:
    """Whether messages from the channel's own numbers are of that class on the day."""
    international = is_international(country, settings.home_country, settings.international_rates_from, day)
    return settings.use_own_numbers and international == (fee_class == "authentication-international")


def _notice(on: date, today: date) -> NoticeDays:
    return 7 if on - today <= timedelta(days=_LAST_NOTICE) else 30

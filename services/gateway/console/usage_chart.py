"""The chart of an account's usage: a bar for each day, divided by country. Numbers only; the template draws them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import NamedTuple

from services.message_router.usage_report import CountryUsage

WIDTH, HEIGHT = 1000, 240
SHOWN_COUNTRIES = 6
"""Those with the most messages; the rest is one part of the bars."""

_GAP = 0.2
"""Of a day's width."""


class Bar(NamedTuple):
    """A part of a day's bar, from its upper left corner; ``rank`` is the country's, from 0."""

    x: float
    y: float
    width: float
    height: float
    rank: int
    day: date
    country: str | None
    messages: int


@dataclass(frozen=True, slots=True)
class CountryTotal:
    """``rank`` is None where the chart has the country among the rest. ``amounts`` are by currency."""

    country: str
    messages: int
    amounts: dict[str, Decimal]
    unpriced: int
    rank: int | None


@dataclass(frozen=True, slots=True)
class UsageChart:
    bars: list[Bar]
    totals: list[CountryTotal]
    """By messages, the most first."""

    highest: int
    """The messages of the day that has the most."""

    messages: int
    amounts: dict[str, Decimal]


def usage_chart(usage: Iterable[CountryUsage], first: date, last: date) -> UsageChart:
    """Lays out the usage of the days, both included."""
    rows = list(usage)
    by_country: Counter[str] = Counter()
    for row in rows:
        by_country[row.country] += row.messages
    ranked = [country for country, _ in sorted(by_country.items(), key=lambda one: (-one[1], one[0]))]
    ranks = {country: rank for rank, country in enumerate(ranked[:SHOWN_COUNTRIES])}
    by_day: dict[date, Counter[int]] = {}
    for row in rows:
        by_day.setdefault(row.day, Counter())[ranks.get(row.country, SHOWN_COUNTRIES)] += row.messages
    highest = max((sum(parts.values()) for parts in by_day.values()), default=0)
    step = WIDTH / ((last - first).days + 1)
    bars = []
    for number in range((last - first).days + 1):
        day, top = first + timedelta(number), float(HEIGHT)
        for rank, messages in sorted(by_day.get(day, Counter()).items()):
            height = HEIGHT * messages / highest
            top -= height
            country = ranked[rank] if rank < SHOWN_COUNTRIES else None
            place = round(step * (number + _GAP / 2), 2), round(top, 2), round(step * (1 - _GAP), 2), round(height, 2)
            bars.append(Bar(*place, rank, day, country, messages))
    totals = [_total(rows, country, ranks.get(country)) for country in ranked]
    return UsageChart(bars, totals, highest, by_country.total(), _amounts(rows))


def _total(rows: list[CountryUsage], country: str, rank: int | None) -> CountryTotal:
    own = [row for row in rows if row.country == country]
    unpriced = sum(row.messages for row in own if row.currency is None)
    return CountryTotal(country, sum(row.messages for row in own), _amounts(own), unpriced, rank)


def _amounts(rows: list[CountryUsage]) -> dict[str, Decimal]:
    found: dict[str, Decimal] = {}
    for row in rows:
        if row.currency is not None:
            found[row.currency] = found.get(row.currency, Decimal(0)) + row.amount
    return dict(sorted(found.items()))

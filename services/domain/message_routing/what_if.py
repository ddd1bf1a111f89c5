"""What recorded decisions would have been under other settings or rates. Pure, and flat in memory.

What the pool would have had is not known where the recorded decision did not look at it: such a message is counted as
unknown, with neither a new route nor a new cost. Where it did, the pool is taken as it was seen then, although other
decisions before would have left other units.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import NamedTuple

from contracts.message_routing import Category, Route
from services.domain.message_routing.country import Country
from services.domain.message_routing.rates import RateEntry, Rates
from services.domain.message_routing.route import (
    Message,
    NoUnit,
    Pool,
    RoutingSettings,
    needs_count,
    needs_unit,
    route,
    utc_day,
)


class RecordedDecision(NamedTuple):
    """``pool`` is None where the decision did not look at it. ``rate`` is an amount and its currency."""

    category: Category
    country: Country
    decided_at: int
    route: Route
    rate: tuple[Decimal, str] | None
    pool: Pool | None


@dataclass(slots=True)
class CountryTotals:
    """``changes`` counts by the route before and after. Costs are by currency, of the messages that are not unknown;
    ``unpriced`` of those that are sent have no rate, before or after."""

    messages: int = 0
    changes: Counter[tuple[Route, Route]] = field(default_factory=Counter)
    unknown: int = 0
    unpriced: int = 0
    before: dict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    after: dict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))


@dataclass(slots=True)
class WhatIf:
    """Takes one channel's decisions in their order, for whole UTC days: the count of a day begins at zero."""

    settings: RoutingSettings
    rates: Rates
    countries: dict[str | None, CountryTotals] = field(default_factory=lambda: defaultdict(CountryTotals))
    _day: date = date.min
    _sent: Counter[str | None] = field(default_factory=Counter)

    def add(self, recorded: RecordedDecision) -> None:
        totals = self.countries[recorded.country.code]
        totals.messages += 1
        message = Message(recorded.category, recorded.country, recorded.decided_at)
        pool = recorded.pool
        if pool is None and needs_unit(self.settings, message):
            totals.unknown += 1
            self._count(message)  # it may have been sent: a limit is reached rather too early than too late
            return
        sent = self._sent_today(message)
        decision = route(self.settings, message, pool or NoUnit("NoResources"), self.rates, sent)
        if decision.route != "failed":
            self._count(message)
        if decision.route != recorded.route:
            totals.changes[recorded.route, decision.route] += 1
        self._add_costs(totals, recorded, decision.route, decision.rate)

    def _add_costs(
        self, totals: CountryTotals, recorded: RecordedDecision, new_route: Route, rate: RateEntry | None
    ) -> None:
        if (recorded.rate is None and recorded.route != "failed") or (rate is None and new_route != "failed"):
            totals.unpriced += 1
            return
        if recorded.rate is not None:
            totals.before[recorded.rate[1]] += recorded.rate[0]
        if rate is not None:
            totals.after[rate.currency] += rate.amount

    def _sent_today(self, message: Message) -> int | None:
        if message.country.code is None or not needs_count(self.settings.spend_guard, message.category):
            return None
        self._begin_day(message)
        return self._sent[message.country.code]

    def _count(self, message: Message) -> None:
        if message.category == "authentication":
            self._begin_day(message)
            self._sent[message.country.code] += 1

    def _begin_day(self, message: Message) -> None:
        day = utc_day(message.now)
        if day > self._day:
            self._day = day
            self._sent.clear()

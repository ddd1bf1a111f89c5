"""What an authentication message with scheduling costs in each country, as the rate book has it today."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime

from contracts.countries import COUNTRIES
from services.gateway.console.console_request import ConsoleRequest
from services.gateway.requests import pool_of
from services.message_router.rate_book import CurrentRates


@dataclass(frozen=True, slots=True)
class CountryRate:
    """``ahead`` is the next change: its first day, UTC, and what it costs then."""

    today: str
    ahead: tuple[date, str] | None


async def country_rates(console: ConsoleRequest) -> dict[str, CountryRate]:
    """Country -> its rate, where the rate book has one."""
    current: CurrentRates = console.request.app.state.rates
    async with pool_of(console.request).acquire() as connection:
        rates = await current.load(connection)
    today = datetime.fromtimestamp(console.request.app.state.now() / 1000, UTC).date()
    found = {}
    for country in COUNTRIES:
        entry, later = rates.on(today, country, "scheduled"), rates.next_after(today, country, "scheduled")
        if entry is not None or later is not None:
            ahead = None if later is None else (later.since, f"{later.currency} {later.amount}")
            found[country] = CountryRate("" if entry is None else f"{entry.currency} {entry.amount}", ahead)
    return found

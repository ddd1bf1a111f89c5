"""What a message is expected to cost: the rate book's entry, and whether international rates apply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import NamedTuple

from contracts.message_routing import FeeClass
from contracts.rates import ApplyRateBook


class RateEntry(NamedTuple):
    """A rate from the UTC date ``since`` on."""

    since: date
    amount: Decimal
    currency: str


class Rates:
    """A rate book, indexed. Version 0 is the empty book that there is before any was applied."""

    def __init__(self, version: int, entries: Mapping[tuple[str, str], Sequence[RateEntry]]) -> None:
        self.version = version
        self._entries = {key: sorted(several, reverse=True) for key, several in entries.items()}

    @classmethod
    def of(cls, book: ApplyRateBook) -> Rates:
        entries: dict[tuple[str, str], list[RateEntry]] = {}
        for rate in book.rates:
            entry = RateEntry(date.fromisoformat(rate.from_), Decimal(rate.amount), rate.currency)
            entries.setdefault((rate.country, rate.fee_class), []).append(entry)
        return cls(book.version, entries)

    def on(self, day: date, country: str | None, fee_class: FeeClass) -> RateEntry | None:
        """The rate on a UTC day; None where the book has none."""
        if country is None:
            return None
        for entry in self._entries.get((country, fee_class), ()):
            if entry.since <= day:
                return entry
        return None

    def next_after(self, day: date, country: str, fee_class: FeeClass) -> RateEntry | None:
        """The first rate that begins after a UTC day; None where the book has none."""
        later = [entry for entry in self._entries.get((country, fee_class), ()) if entry.since > day]
        return later[-1] if later else None

    def entries_between(self, country: str, fee_class: FeeClass, after: date, until: date) -> list[RateEntry]:
        """The entries that begin after one day and not after another, the earliest first."""
        entries = self._entries.get((country, fee_class), ())
        return [entry for entry in reversed(entries) if after < entry.since <= until]


NO_RATES = Rates(0, {})


def is_international(
    country: str | None, home_country: str | None, rates_from: Mapping[str, str], delivered_on: date
) -> bool:
    """Whether the international authentication rate applies to a delivery on a UTC day.

    It applies where the business is eligible for the recipient's country (the platform states a start date for it), is
    based in another country, and the message is delivered on that date or later. A business whose home country is not
    stated counts as based elsewhere: the dearer rate is the safer expectation.
    """
    starts = None if country is None else rates_from.get(country)
    return starts is not None and country != home_country and delivered_on >= date.fromisoformat(starts)

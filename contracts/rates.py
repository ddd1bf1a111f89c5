"""The rate book: what a message costs by country and fee class, kept by the operator as one file."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from .countries import CountryCode
from .message import CommandData, EventData
from .message_routing import FeeClass

RATE_BOOK = "rate-book"
"""The key of every rate book's record: the topic keeps the newest."""

MAX_RATES = 20_000
LARGEST_AMOUNT = Decimal("1000000")
_DECIMALS = 8


def _amount(text: str) -> str:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal("NaN")
    exponent = amount.as_tuple().exponent
    if not amount.is_finite() or not isinstance(exponent, int) or -exponent > _DECIMALS or "e" in text.lower():
        raise ValueError(f"it must be a decimal with at most {_DECIMALS} places, such as '0.0136'")
    if not 0 <= amount <= LARGEST_AMOUNT:
        raise ValueError(f"it must be between 0 and {LARGEST_AMOUNT:,}")
    return text


def canonical_amount(text: str) -> str:
    """An amount without zeros that say nothing: ``0.050`` becomes ``0.05``."""
    return f"{Decimal(text).normalize():f}"


def _date(text: str) -> str:
    try:
        found = datetime.date.fromisoformat(text) if len(text) == 10 else None
    except ValueError:
        found = None
    if found is None:
        raise ValueError("it must be a date such as '2026-10-01'")
    return text


Amount = Annotated[str, AfterValidator(_amount)]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
Date = Annotated[str, AfterValidator(_date)]


class Rate(BaseModel):
    """``amount`` of ``currency`` (ISO 4217) for each message, from the UTC date ``from`` on."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", validate_by_name=True, serialize_by_alias=True)

    country: CountryCode
    fee_class: FeeClass
    currency: Currency
    amount: Amount
    from_: Date = Field(alias="from")


class ApplyRateBook(CommandData):
    """A whole rate book, instead of the one before. ``version`` counts the books that were applied: 1, 2, 3 …

    The record's key is ``rate-book``, and the last record stands: where its version is taken, it gets the next one.
    The envelope's ``actor`` is who applied it.
    """

    version: Annotated[int, Field(ge=1, lt=2**53)]
    sample: bool = False
    rates: Annotated[tuple[Rate, ...], Field(max_length=MAX_RATES, strict=False)]

    @model_validator(mode="after")
    def _one_rate_from_each_date(self) -> Self:
        for _, second in duplicate_rates(self.rates):
            rate = self.rates[second]
            raise ValueError(f"two rates are for {rate.country} {rate.fee_class} from {rate.from_}; keep one of them")
        return self


def duplicate_rates(rates: Sequence[Rate]) -> list[tuple[int, int]]:
    """The places of rates for the same country and fee class from the same date: the first, and one after it."""
    seen: dict[tuple[str, str, str], int] = {}
    places = [(seen.setdefault((r.country, r.fee_class, r.from_), place), place) for place, r in enumerate(rates)]
    return [(first, place) for first, place in places if first != place]


class RateChangeAhead(EventData):
    """A country that a channel has chosen turns dearer, or international, in ``days`` days."""

    country: str
    date: str
    days: Literal[30, 7]
    change: Literal["international", "dearer"]
    fee_class: FeeClass
    currency: str | None = None
    amount_before: str | None = None
    amount_after: str | None = None
    rate_book: int | None = None
    sentence: str

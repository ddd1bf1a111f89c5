"""The rate book's file: read with the numbers of its wrong lines, written so that it is read as the same."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contracts.rates import ApplyRateBook, Rate, duplicate_rates
from services.message_router.rate_file import RateFileError, parse_rates, rate_changes, rates_file

SAMPLE = Path(__file__).parents[3] / "docs" / "rates.sample.csv"
HEADER = "country,fee_class,currency,amount,from\n"
IN = "IN,scheduled,AED,0.0136,2026-01-01\n"


def rate(**changes: Any) -> Rate:
    row = {"country": "IN", "fee_class": "scheduled", "currency": "AED", "amount": "0.0136", "from": "2026-01-01"}
    return Rate.model_validate(row | changes)


def test_a_file_is_a_book_of_decimals_in_text() -> None:
    book = parse_rates(f"# ours\n\n{HEADER}{IN}IN , scheduled,AED, 0.10,2026-12-01\n", 7)
    assert book == ApplyRateBook(version=7, rates=(rate(), rate(amount="0.10", **{"from": "2026-12-01"})))


def test_the_sample_is_marked_as_one() -> None:
    book = parse_rates(SAMPLE.read_text(), 1)
    assert book.sample
    local, international = book.rates
    assert 25 < Decimal(international.amount) / Decimal(local.amount) < 27
    assert not parse_rates(HEADER + IN, 1).sample


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "Line 1: the columns must be country,fee_class,currency,amount,from."),
        ("# note\ncountry,fee,currency,amount,from\n", "Line 2: the columns must be"),
        (HEADER + IN + "IN,scheduled,AED,0.1\n", "Line 3: it has 4 values; it must have 5"),
        (HEADER + "XX,scheduled,AED,0.1,2026-01-01\n", "Line 2: 'country' is wrong: it must be an ISO 3166-1"),
        (HEADER + "IN,otp,AED,0.1,2026-01-01\n", "Line 2: 'fee_class' is wrong"),
        (HEADER + "IN,scheduled,aed,0.1,2026-01-01\n", "Line 2: 'currency' is wrong"),
        (HEADER + "IN,scheduled,AED,1e-2,2026-01-01\n", "Line 2: 'amount' is wrong: it must be a decimal"),
        (HEADER + "IN,scheduled,AED,-1,2026-01-01\n", "Line 2: 'amount' is wrong: it must be between 0"),
        (HEADER + "IN,scheduled,AED,nan,2026-01-01\n", "Line 2: 'amount' is wrong"),
        (HEADER + "IN,scheduled,AED,0.1,01.01.2026\n", "Line 2: 'from' is wrong: it must be a date"),
        (HEADER + IN + "# again\nIN,scheduled,EUR,5,2026-01-01\n", "Line 4: line 2 has a rate for IN scheduled from"),
        (HEADER + 'IN,"scheduled,AED,0.1,2026-01-01\n', "Line 2: unexpected end of data"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, sentence: str) -> None:
    with pytest.raises(RateFileError) as caught:
        parse_rates(text, 1)
    assert str(caught.value).startswith(sentence)
    assert str(caught.value).endswith(".")


def test_every_wrong_line_is_told_at_once_and_not_thousands_of_them() -> None:
    with pytest.raises(RateFileError) as caught:
        parse_rates(HEADER + "XX,scheduled,AED,0.1,2026-01-01\n" + IN + IN, 1)
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == ["Line 2", "Line 4"]
    with pytest.raises(RateFileError, match="4,980 more lines are wrong"):
        parse_rates(HEADER + "XX\n" * 5_000, 1)


rates = st.builds(
    rate,
    country=st.sampled_from(["IN", "BD", "XK"]),
    fee_class=st.sampled_from(["scheduled", "authentication", "marketing"]),
    amount=st.decimals(0, 1000, places=4).map(lambda amount: f"{amount:f}"),
    **{"from": st.dates().map(str)},
)
books = st.lists(rates, max_size=9, unique_by=lambda one: (one.country, one.fee_class, one.from_)).map(tuple)


@given(books, st.booleans())
def test_a_book_is_read_as_it_was_written(several: tuple[Rate, ...], sample: bool) -> None:  # noqa: FBT001
    book = ApplyRateBook(version=3, sample=sample, rates=several)
    assert parse_rates(rates_file(book), 3) == book
    assert rate_changes(book.rates, parse_rates(rates_file(book), 3).rates) == []


def test_what_changes_is_told_by_row() -> None:
    dearer = rate(amount="0.02")
    assert rate_changes([rate(), rate(country="BD")], [dearer, rate(country="BD")]) == [
        "- IN,scheduled,AED,0.0136,2026-01-01",
        "+ IN,scheduled,AED,0.02,2026-01-01",
    ]


def test_a_book_with_two_rates_from_one_date_is_none() -> None:
    twice = [rate(), rate(country="BD"), rate(currency="EUR"), rate()]
    assert duplicate_rates(twice) == [(0, 2), (0, 3)]
    with pytest.raises(ValidationError, match="two rates are for IN scheduled from 2026-01-01"):
        ApplyRateBook(version=1, rates=tuple(twice))

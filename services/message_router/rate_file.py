"""The rate book as a CSV file (RFC 4180) that the operator keeps.

A row is a rate: ``country,fee_class,currency,amount,from``. Lines that begin with ``#`` are comments; the comment
``# sample`` marks the book as a sample, which `rates show` and the API say.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator

from pydantic import ValidationError

from contracts.envelope import validation_message
from contracts.rates import MAX_RATES, ApplyRateBook, Rate, duplicate_rates

COLUMNS = ("country", "fee_class", "currency", "amount", "from")
LARGEST_FILE = 4 * 1024 * 1024
_SAMPLE = "# sample"
_NAMED = 20


class RateFileError(ValueError):
    """The file cannot be used. The text has a sentence on each line, with the number of the line in the file."""


def parse_rates(text: str, version: int) -> ApplyRateBook:
    """The file's rates as a book of that version. Raises `RateFileError`, which names every wrong line."""
    if len(text) > LARGEST_FILE:
        raise RateFileError(f"The file is larger than {LARGEST_FILE:,} characters; no rate book is.")
    lines = text.removeprefix("\ufeff").splitlines()
    rows = _rows(lines)
    number, header = next(rows, (1, []))
    if tuple(header) != COLUMNS:
        raise RateFileError(f"Line {number}: the columns must be {','.join(COLUMNS)}.")
    rates: list[Rate] = []
    numbers: list[int] = []
    problems: list[tuple[int, str]] = []
    for number, row in rows:
        try:
            rates.append(_rate(row))
            numbers.append(number)
        except ValueError as error:
            problems.append((number, str(error)))
    for first, second in duplicate_rates(rates):
        rate = rates[second]
        what = f"{rate.country} {rate.fee_class} from {rate.from_}"
        problems.append((numbers[second], f"line {numbers[first]} has a rate for {what} already; keep one of them."))
    if len(rates) > MAX_RATES:
        raise RateFileError(f"The file has {len(rates):,} rates; at most {MAX_RATES:,} fit.")
    if problems:
        sentences = [f"Line {number}: {problem}" for number, problem in sorted(problems)]
        more = [f"{len(sentences) - _NAMED:,} more lines are wrong."] if len(sentences) > _NAMED else []
        raise RateFileError("\n".join(sentences[:_NAMED] + more))
    sample = any(line.strip().lower() == _SAMPLE for line in lines)
    return ApplyRateBook(version=version, sample=sample, rates=tuple(rates))


def _rows(lines: list[str]) -> Iterator[tuple[int, list[str]]]:
    """The rows with their line numbers, without comments and empty lines. No value of a rate needs a line break."""
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            yield number, [cell.strip() for cell in next(csv.reader([line], strict=True))]
        except csv.Error as error:
            raise RateFileError(f"Line {number}: {error}.") from None


def _rate(row: list[str]) -> Rate:
    """Raises ValueError with a sentence."""
    if len(row) != len(COLUMNS):
        raise ValueError(f"it has {len(row)} values; it must have {len(COLUMNS)}: {','.join(COLUMNS)}.")
    try:
        return Rate.model_validate(dict(zip(COLUMNS, row, strict=True)))
    except ValidationError as error:
        raise ValueError(validation_message(error)) from None


def rates_file(book: ApplyRateBook) -> str:
    """The book as a file; `parse_rates` reads the same from it."""
    text = io.StringIO()
    text.write(f"# Rate book {book.version}\n" + (f"{_SAMPLE}\n" if book.sample else ""))
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_cells(rate) for rate in book.rates)
    return text.getvalue()


def _cells(rate: Rate) -> tuple[str, ...]:
    return rate.country, rate.fee_class, rate.currency, rate.amount, rate.from_


def rate_changes(before: Iterable[Rate], after: Iterable[Rate]) -> list[str]:
    """The rows that differ, ``+`` for one that comes and ``-`` for one that goes, sorted by country and class."""
    old, new = ({_cells(rate) for rate in rates} for rates in (before, after))
    differing = [(cells, "-") for cells in old - new] + [(cells, "+") for cells in new - old]
    return [f"{sign} {','.join(cells)}" for cells, sign in sorted(differing, key=lambda one: (_place(one[0]), one[1]))]


def _place(cells: tuple[str, ...]) -> tuple[str, ...]:
    country, fee_class, currency, amount, since = cells
    return country, fee_class, since, currency, amount

"""The daily usage, as it is booked: read in pages, so that a report of any length needs little memory."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple

from services.infrastructure.postgres import Pool

COLUMNS = ("day", "account", "channel", "country", "fee_class", "messages", "amount", "currency", "correction_of")

_KEY = ("day", "account", "channel", "country", "fee_class", "currency", "correction_of")
_PAGE = f"""
    SELECT * FROM message_router.usage
    WHERE day BETWEEN $1 AND $2 AND ($3::text IS NULL OR account = $3)
        AND ($4::date IS NULL OR
            ({", ".join(_KEY)}) > ($4, $5::text, $6::text, $7::text, $8::text, $9::text, $10::text))
    ORDER BY {", ".join(_KEY)} LIMIT $11
"""  # noqa: S608 -- constants of ours
_ROWS_AT_ONCE = 1_000


_BY_COUNTRY = """
    SELECT day, country, NULLIF(currency, '') AS currency, sum(messages)::bigint AS messages, sum(amount) AS amount
    FROM message_router.usage WHERE day BETWEEN $1 AND $2 AND ($3::text IS NULL OR account = $3)
    GROUP BY day, country, currency ORDER BY day, country, currency
"""


@dataclass(frozen=True, slots=True)
class UsagePeriod:
    """UTC days, both included; ``account`` None is all."""

    first: date
    last: date
    account: str | None = None


async def usage_pages(pool: Pool, period: UsagePeriod) -> AsyncIterator[list[dict[str, Any]]]:
    """The rows by day, account and channel. ``amount`` is a decimal in text; ``correction_of`` names the day that was
    over when the charge came, and is None where the row is the day's own."""
    after: Sequence[Any] = (None,) * len(_KEY)
    while rows := await pool.fetch(_PAGE, period.first, period.last, period.account, *after, _ROWS_AT_ONCE):
        yield [_shown(row) for row in rows]
        after = [rows[-1][name] for name in _KEY]


class CountryUsage(NamedTuple):
    """What was booked on a UTC day for a country; ``currency`` is None where the rate book had no rate."""

    day: date
    country: str
    currency: str | None
    messages: int
    amount: Decimal


async def usage_by_country(pool: Pool, period: UsagePeriod) -> list[CountryUsage]:
    """The usage of all channels together, by day and country."""
    return [CountryUsage(*row) for row in await pool.fetch(_BY_COUNTRY, period.first, period.last, period.account)]


def _shown(row: Any) -> dict[str, Any]:
    shown = {name: row[name] for name in COLUMNS}
    return shown | {
        "day": row["day"].isoformat(),
        "amount": f"{row['amount']:f}" if row["currency"] else None,
        "currency": row["currency"] or None,
        "correction_of": row["correction_of"] or None,
    }


def csv_lines(rows: Sequence[dict[str, Any]] | None = None) -> str:
    """The rows as CSV (RFC 4180); the header where there are none."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerows([COLUMNS] if rows is None else [[row[name] for name in COLUMNS] for row in rows])
    return text.getvalue()

"""Rate books: each version that was applied is kept, because decisions cite it.

The topic keeps its last record, so the last record is the standing book, whatever version it names: of two operators
who apply at once, both books get a version, in the order of the topic.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import structlog
from pydantic import ValidationError

from contracts.envelope import InvalidEnvelope, UndecodableEnvelope, read_command, validation_message
from contracts.rates import ApplyRateBook
from services.domain.message_routing.rates import NO_RATES, Rates
from services.infrastructure.postgres import Connection, Pool

_POLL_S = 0.1

log = structlog.stdlib.get_logger(__name__)

_NEWEST = "SELECT version FROM message_router.rate_books ORDER BY version DESC LIMIT 1"
_READ = "SELECT book FROM message_router.rate_books WHERE version = $1"
_PAGE = """
    SELECT b.version, coalesce((b.book ->> 'sample')::boolean, false),
        coalesce(json_agg(rate ORDER BY place) FILTER (WHERE number <= $5), '[]')::text,
        CASE WHEN count(*) > $5 THEN max(place) FILTER (WHERE number <= $5) END
    FROM message_router.rate_books b LEFT JOIN LATERAL (
        SELECT rate, place, row_number() OVER (ORDER BY place) AS number
        FROM json_array_elements(b.book -> 'rates') WITH ORDINALITY AS e(rate, place)
        WHERE ($2::text IS NULL OR rate ->> 'country' = $2) AND ($3::text IS NULL OR rate ->> 'fee_class' = $3)
            AND place > $4 ORDER BY place LIMIT $5 + 1
    ) AS r ON true
    WHERE b.version = coalesce($1, (SELECT max(version) FROM message_router.rate_books)) GROUP BY b.version
"""
_READ_FROM = "SELECT book FROM message_router.rate_books WHERE version >= $1 ORDER BY version"
_ADD = "INSERT INTO message_router.rate_books VALUES ($1, $2)"
# Books that were published to several partitions may be applied by several routers.
_LOCK = "LOCK TABLE message_router.rate_books IN SHARE ROW EXCLUSIVE MODE"


async def apply_rate_books(connection: Connection, _: int, records: Sequence[Any]) -> None:
    """Applies rate books; one that is unreadable, or has the rates that stand already, changes nothing."""
    for record in records:
        if record.value is None:
            continue
        try:
            book = ApplyRateBook.model_validate(read_command(record.value).data)
        except ValidationError as error:
            log.warning("rate book ignored", offset=record.offset, reason=validation_message(error, "data"))
        except (UndecodableEnvelope, InvalidEnvelope) as error:
            log.warning("rate book ignored", offset=record.offset, reason=str(error))
        else:
            await _apply(connection, book)


async def _apply(connection: Connection, book: ApplyRateBook) -> None:
    """Makes it the standing book, with the version that it names, or the next one where that is taken."""
    await connection.execute(_LOCK)
    newest = await rate_book(connection)
    if newest is None or not _same_rates(newest, book):
        version = book.version if newest is None else max(book.version, newest.version + 1)
        await connection.execute(_ADD, version, book.model_copy(update={"version": version}).model_dump_json())


def _same_rates(one: ApplyRateBook, other: ApplyRateBook) -> bool:
    return one.model_copy(update={"version": other.version}) == other


class CurrentRates:
    """The newest rate book, parsed once."""

    def __init__(self) -> None:
        self._rates = NO_RATES

    async def load(self, connection: Connection) -> Rates:
        version = await connection.fetchval(_NEWEST)
        if version is not None and version != self._rates.version:
            self._rates = Rates.of(ApplyRateBook.model_validate_json(await connection.fetchval(_READ, version)))
        return self._rates


async def rate_book(connection: Connection | Pool, version: int | None = None) -> ApplyRateBook | None:
    """The book of that version, or the newest; None where there is none."""
    version = await connection.fetchval(_NEWEST) if version is None else version
    book = None if version is None else await connection.fetchval(_READ, version)
    return None if book is None else ApplyRateBook.model_validate_json(book)


class RateFilter(NamedTuple):
    """None means any; ``after`` is the place of a rate in its book, of which the first is 1."""

    country: str | None = None
    fee_class: str | None = None
    after: int = 0


class RatePage(NamedTuple):
    """``rates`` is JSON. ``last`` is the place of the last of them if there are more, else None."""

    version: int
    sample: bool
    rates: str
    last: int | None


async def rate_page(pool: Pool, version: int | None, chosen: RateFilter, limit: int) -> RatePage | None:
    """Rates of that version, or the newest, in their order; None where there is none.

    The database takes the book, which can be some megabytes, apart.
    """
    row = await pool.fetchrow(_PAGE, version, *chosen, limit)
    return None if row is None else RatePage(*row)


class RateBookNotApplied(Exception):
    """The text is a sentence that says what to do."""


async def apply_and_wait(
    pool: Pool, rates: ApplyRateBook, publish: Callable[[ApplyRateBook], Awaitable[None]], timeout_s: float
) -> ApplyRateBook:
    """Publishes the rates as the next version, and waits until the router has applied them. Raises
    `RateBookNotApplied`.

    Returns the book as it was applied; where somebody else applied one at the same time, its version is a later one.
    The same rates as the newest book's are not published again.
    """
    newest = await rate_book(pool)
    if newest is not None and _same_rates(newest, rates):
        return newest
    book = rates.model_copy(update={"version": 1 if newest is None else newest.version + 1})
    await publish(book)
    deadline = time.monotonic() + timeout_s
    while True:
        for row in await pool.fetch(_READ_FROM, book.version):
            applied = ApplyRateBook.model_validate_json(row["book"])
            if _same_rates(applied, book):
                return applied
        if time.monotonic() > deadline:
            raise RateBookNotApplied(
                f"The rates are published, but no message router applied them within {timeout_s:g} s; they are applied "
                "once one runs."
            )
        await asyncio.sleep(_POLL_S)

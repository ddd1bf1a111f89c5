"""Notices of rate changes: 30 and 7 days before a chosen country of a channel turns international or dearer.

A notice and the row that says that it went out are of one transaction, under the lock of the channel's home partition:
it goes out once, whatever restarts.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import date, timedelta
from functools import partial

import structlog

from contracts.partitioner import partition_of
from contracts.rates import RateChangeAhead
from services.domain.message_routing.rate_changes import RateChange, changes_ahead
from services.domain.message_routing.rates import RateEntry, Rates
from services.domain.message_routing.route import utc_day
from services.infrastructure.poison_messages import isolate_poison
from services.infrastructure.postgres import OUTAGES, Connection, Pool
from services.message_router.notices import Subject, notice
from services.message_router.outbox import OutboxRecord, add_to_outbox, lock_partitions
from services.message_router.ownership import OnCommitted, Ownership
from services.message_router.poison import count_poison
from services.message_router.rate_book import CurrentRates
from services.message_router.settings_replica import RoutedChannel, load_channels, scheduled_channels

log = structlog.stdlib.get_logger(__name__)

_EVERY_S = 600.0
_PAGE = 500
_KEPT = timedelta(days=30)

_TELL = """
    INSERT INTO message_router.rate_notices (channel, country, change, fee_class, changes_on, days)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::date[], $6::int[])
    ON CONFLICT DO NOTHING RETURNING channel, country, change, fee_class, changes_on, days
"""
_FORGET = "DELETE FROM message_router.rate_notices WHERE changes_on < $1"

Found = tuple[str, RoutedChannel, RateChange]


class RateNotices:
    """Looks at all channels with OTP delivery scheduling again and again, until cancelled."""

    def __init__(
        self, pool: Pool, partitions: int, ownership: Ownership, rates: CurrentRates, on_committed: OnCommitted
    ) -> None:
        self._pool, self._partitions, self._ownership = pool, partitions, ownership
        self._rates, self._on_committed = rates, on_committed

    async def run(self) -> None:
        while True:
            try:
                await self.run_once(time.time_ns() // 1_000_000)
            except OUTAGES as error:
                log.warning("rate notices wait", reason=type(error).__name__)
            await asyncio.sleep(_EVERY_S if self._ownership.partitions else 1)

    async def run_once(self, now: int) -> None:
        """Publishes the notices that are due at ``now`` (Unix milliseconds), of this router's partitions."""
        after = ""
        async with self._pool.acquire() as connection:
            rates = await self._rates.load(connection)
        while page := await scheduled_channels(self._pool, after, _PAGE):
            after = page[-1]
            by_partition: dict[int, list[str]] = defaultdict(list)
            for name in page:
                by_partition[partition_of(name, self._partitions)].append(name)
            for partition in by_partition.keys() & self._ownership.partitions:
                await isolate_poison(
                    by_partition[partition],
                    partial(self._tell, partition, rates, now),
                    partial(self._pass_over, partition),
                )
        await self._pool.execute(_FORGET, utc_day(now) - _KEPT)

    async def _tell(self, partition: int, rates: Rates, now: int, names: Sequence[str]) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            numbers = await lock_partitions(connection, {partition})
            channels = await load_channels(connection, names)
            found = [
                (name, channel, change)
                for name, channel in channels.items()
                for change in changes_ahead(channel.settings, rates, utc_day(now))
            ]
            if found:
                records = await _records(connection, partition, found, rates.version, now)
                await add_to_outbox(connection, numbers, records)
        if found:
            self._on_committed({partition})

    async def _pass_over(self, partition: int, _: str, __: Exception) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            await lock_partitions(connection, {partition})
            await count_poison(connection, partition, "rate_notice")


async def _records(
    connection: Connection, partition: int, found: Sequence[Found], book: int, now: int
) -> list[OutboxRecord]:
    """The notices that did not go out yet; notes that they do."""
    by_key = {_key(name, change): (name, channel, change) for name, channel, change in found}
    told = await connection.fetch(_TELL, *(list(column) for column in zip(*by_key, strict=True)))
    records = []
    for row in told:
        key = tuple(row)
        name, channel, change = by_key[key]
        cause = f"rate-change:{change.country}:{change.on}"
        subject = Subject(partition, name, channel.account, "", cause, cause)
        records.append(notice(subject, _data(change, book), now, *map(str, key[1:])))
    return records


def _key(channel: str, change: RateChange) -> tuple[str, str, str, str, date, int]:
    return channel, change.country, change.change, change.fee_class, change.on, change.days


def _data(change: RateChange, book: int) -> RateChangeAhead:
    known = change.after or change.before
    return RateChangeAhead(
        country=change.country,
        date=change.on.isoformat(),
        days=change.days,
        change=change.change,
        fee_class=change.fee_class,
        currency=None if known is None else known.currency,
        amount_before=None if change.before is None else f"{change.before.amount:f}",
        amount_after=None if change.after is None else f"{change.after.amount:f}",
        rate_book=book or None,
        sentence=_sentence(change),
    )


def _sentence(change: RateChange) -> str:
    if change.change == "international":
        what = f"From {change.on}, messages from own numbers to {change.country} have international rates"
    else:
        what = f"From {change.on}, the {change.fee_class} rate for {change.country} is higher"
    if change.before is None or change.after is None:
        return f"{what}."
    return f"{what}: {_amount(change.after)} instead of {_amount(change.before)} a message."


def _amount(rate: RateEntry) -> str:
    return f"{rate.amount:f} {rate.currency}"

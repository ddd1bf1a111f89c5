"""How many authentication messages each channel sent to each country today (UTC), for the spend guard.

A channel's count is read and written under the lock of its home partition, in the transaction of its messages, so that
no message is counted twice or missed. Only the last day is kept; when the clock steps back over midnight, the later day
goes on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import date

from contracts.message_routing import MessageRouted
from services.infrastructure.postgres import Connection

CountKey = tuple[str, str]
"""Channel and recipient's country."""

_LOAD = """
    SELECT d.* FROM message_router.daily_messages d
    JOIN unnest($1::text[], $2::text[]) AS w(channel, country) USING (channel, country) WHERE d.day >= $3
"""
_ADD = """
    INSERT INTO message_router.daily_messages AS d (channel, country, day, messages)
    SELECT channel, country, $3, messages FROM unnest($1::text[], $2::text[], $4::bigint[])
        AS n(channel, country, messages)
    ON CONFLICT (channel, country) DO UPDATE
    SET day = greatest(d.day, excluded.day),
        messages = excluded.messages + CASE WHEN d.day >= excluded.day THEN d.messages ELSE 0 END
"""
_REPLACE = """
    INSERT INTO message_router.daily_messages AS d (channel, country, day, messages)
    SELECT * FROM unnest($1::text[], $2::text[], $3::date[], $4::bigint[])
    ON CONFLICT (channel, country) DO UPDATE SET day = excluded.day, messages = excluded.messages
    WHERE d.day <= excluded.day
"""


def counts_today(routed: MessageRouted) -> bool:
    """Whether the guard's limit counts the message."""
    return routed.route != "failed" and routed.category == "authentication" and routed.country is not None


async def replace_counts(connection: Connection, counts: Mapping[tuple[str, str, date], int]) -> None:
    """``counts`` by channel, country and day: of each channel and country, the last day's becomes the count."""
    last = {(channel, country): day for channel, country, day in sorted(counts)}
    rows = [(*key, day, counts[*key, day]) for key, day in last.items()]
    if rows:
        await connection.execute(_REPLACE, *map(list, zip(*rows, strict=True)))


@dataclass(slots=True)
class DailyMessages:
    """The counts that a transaction may need, and what it adds to them."""

    day: date
    _before: dict[CountKey, int] = field(default_factory=dict)
    _added: dict[CountKey, int] = field(default_factory=dict)

    @classmethod
    async def load(cls, connection: Connection, keys: Collection[CountKey], day: date) -> DailyMessages:
        if not keys:
            return cls(day)
        channels, countries = zip(*keys, strict=True)
        rows = await connection.fetch(_LOAD, channels, countries, day)
        return cls(day, {(row["channel"], row["country"]): row["messages"] for row in rows})

    def sent_today(self, channel: str, country: str) -> int:
        key = channel, country
        return self._before.get(key, 0) + self._added.get(key, 0)

    def count(self, channel: str, country: str) -> None:
        self._added[channel, country] = self._added.get((channel, country), 0) + 1

    async def save(self, connection: Connection) -> None:
        if self._added:
            keys = sorted(self._added)
            channels, countries = zip(*keys, strict=True)
            await connection.execute(_ADD, channels, countries, self.day, [self._added[key] for key in keys])

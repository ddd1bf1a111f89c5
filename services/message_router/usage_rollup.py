"""The daily rollup of usage: equal to the fold of the usage topic, because both are written in one transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from decimal import Decimal

from contracts.usage import MessageCharged
from services.infrastructure.postgres import Connection
from services.message_router.notices import Subject

UsageKey = tuple[str, str, str, str, str, str, str]
"""Day, account, channel, country, fee class, currency, and the day that it corrects."""

_ADD = """
    INSERT INTO message_router.usage AS u
        (day, account, channel, country, fee_class, currency, correction_of, messages, amount)
    SELECT * FROM unnest($1::date[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
        $8::bigint[], $9::numeric[])
    ON CONFLICT (day, account, channel, country, fee_class, currency, correction_of)
    DO UPDATE SET messages = u.messages + excluded.messages, amount = u.amount + excluded.amount
"""
_CHANNELS = "SELECT DISTINCT channel FROM message_router.usage WHERE day >= $1"
_DELETE = "DELETE FROM message_router.usage WHERE day >= $1 AND channel = ANY($2::text[])"


def usage_key(account: str, channel: str, charged: MessageCharged) -> UsageKey:
    """Where a charge is booked. A day that is over never changes: what comes late is booked today, as a correction."""
    correction_of = "" if charged.booked_on == charged.day else charged.day
    return (
        *(charged.booked_on, account, channel, charged.country, charged.fee_class),
        *(charged.currency or "", correction_of),
    )


def fold_usage(charges: Iterable[tuple[str, str, MessageCharged]]) -> dict[UsageKey, tuple[int, Decimal]]:
    """Messages and amount of (account, channel, charge) by key."""
    totals: dict[UsageKey, tuple[int, Decimal]] = defaultdict(lambda: (0, Decimal(0)))
    for account, channel, charged in charges:
        key = usage_key(account, channel, charged)
        messages, amount = totals[key]
        totals[key] = messages + 1, amount + Decimal(charged.amount or 0)
    return dict(totals)


async def add_usage(connection: Connection, charged: Iterable[tuple[Subject, MessageCharged]]) -> None:
    await _add(connection, fold_usage((subject.account, subject.channel, data) for subject, data in charged))


async def replace_usage(
    connection: Connection,
    totals: Mapping[UsageKey, tuple[int, Decimal]],
    since: date,
    is_meant: Callable[[str], bool],
) -> None:
    """Makes ``totals`` the rollup of the days from ``since``, of the channels that are meant."""
    channels = [row["channel"] for row in await connection.fetch(_CHANNELS, since)]
    await connection.execute(_DELETE, since, [channel for channel in channels if is_meant(channel)])
    await _add(connection, totals)


async def _add(connection: Connection, totals: Mapping[UsageKey, tuple[int, Decimal]]) -> None:
    if not totals:
        return
    rows = [
        (date.fromisoformat(day), *rest, *totals[day, *rest])  # type: ignore[index]
        for day, *rest in sorted(totals)
    ]
    await connection.execute(_ADD, *(list(column) for column in zip(*rows, strict=True)))

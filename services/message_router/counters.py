"""Counters for metrics: what was told, counted in the transaction that makes it true."""

from __future__ import annotations

from collections import Counter

from contracts.message import EventData
from contracts.message_routing import MessageRouted, RoutingRefused
from contracts.message_status import ReservationSettled, SmsFallbackDue, SmsFallbackWithheld, StatusRefused
from contracts.usage import MessageCharged
from services.infrastructure.postgres import Connection

CounterKey = tuple[int, str, str]
"""Partition, name of the counter, and the values of its labels, separated by spaces."""

_ADD = """
    INSERT INTO message_router.counters AS c (partition, name, labels, total)
    SELECT partition, name, string_to_array(labels, ' '), total
    FROM unnest($1::int[], $2::text[], $3::text[], $4::bigint[]) AS n(partition, name, labels, total)
    ON CONFLICT (partition, name, labels) DO UPDATE SET total = c.total + excluded.total
"""


def counted(data: EventData) -> tuple[str, tuple[str, ...]] | None:
    """The counter that a notice adds to, and its labels; None where none does."""
    match data:
        case MessageRouted():
            return "decisions", (data.route, data.rule)
        case RoutingRefused():
            return "refusals", (data.reason,)
        case StatusRefused():
            return "refused_statuses", (data.reason,)
        case ReservationSettled():
            return "reservations", ("posted_late" if data.late else data.ended,)
        case SmsFallbackDue():
            return "fallbacks", ("due",)
        case SmsFallbackWithheld():
            return "fallbacks", (data.reason,)
        case MessageCharged():
            return "charges", (data.country,)
    return None


async def add_counters(connection: Connection, counts: Counter[CounterKey]) -> None:
    """The transaction must have locked the partitions."""
    if counts:
        keys = sorted(counts)
        await connection.execute(_ADD, *map(list, zip(*keys, strict=True)), [counts[key] for key in keys])

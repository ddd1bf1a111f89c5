"""When deliveries are due. Code that makes one due wakes its queue in the same transaction.

Each business system has one queue per lane; its row in `invoker.queues` says from when on something may be due.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal, NamedTuple

from services.infrastructure.postgres import Connection

Lane = Literal["test", "first", "retry"]

LANES: tuple[Lane, ...] = ("test", "first", "retry")
"""In the order in which they are claimed."""

_WAKE = """
    INSERT INTO invoker.queues (channel, system, lane, wake_at)
    SELECT channel, system, lane, min(wake_at) FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[])
        AS w(channel, system, lane, wake_at)
    GROUP BY channel, system, lane ORDER BY channel, system, lane
    ON CONFLICT (channel, system, lane) DO UPDATE SET wake_at = least(queues.wake_at, excluded.wake_at)
"""
_WAKE_ALL = """
    INSERT INTO invoker.queues SELECT DISTINCT $1, d.system, d.lane, now() FROM invoker.deliveries d
    WHERE d.channel = $1 AND ($2::text IS NULL OR d.system = $2) AND d.state = 'due' AND d.lease IS NULL
    ON CONFLICT (channel, system, lane) DO UPDATE SET wake_at = now()
"""
_PARK = """
    UPDATE invoker.deliveries SET state = 'parked'
    WHERE channel = $1 AND system = $2 AND state = 'due' AND lease IS NULL AND NOT test
"""
_MAKE_DUE = """
    UPDATE invoker.deliveries SET state = 'due', due_at = now() WHERE channel = $1 AND system = $2 AND {condition}
"""
_FAIL_ALL = """
    UPDATE invoker.deliveries SET state = 'due', due_at = now(), reason = $3
    WHERE channel = $1 AND ($2::text IS NULL OR system = $2) AND {condition}
"""
_NOT_LEASED = ("state = 'parked'", "state = 'due' AND lease IS NULL")
"""Each condition is spelled as in the partial index that serves it."""


class Wake(NamedTuple):
    """A queue, and when its next delivery is due."""

    channel: str
    system: str
    lane: Lane
    at: datetime


async def wake(connection: Connection, wakes: Iterable[Wake]) -> None:
    """Wakes queues. Call it last in a transaction: it locks their rows until the end, and claimers skip locked rows."""
    columns = list(zip(*wakes, strict=True))
    if columns:
        await connection.execute(_WAKE, *(list(column) for column in columns))


async def park(connection: Connection, channel: str, system: str) -> None:
    """Deliveries of a disabled system wait until it is enabled; test calls go on."""
    await connection.execute(_PARK, channel, system)


async def make_due(connection: Connection, channel: str, system: str) -> None:
    """Makes all deliveries of the system that are parked, or due later, due now."""
    for condition in _NOT_LEASED:
        await connection.execute(_MAKE_DUE.format(condition=condition), channel, system)
    await connection.execute(_WAKE_ALL, channel, system)


async def fail_all(connection: Connection, channel: str, system: str | None, reason: str) -> None:
    """Ends all deliveries of the system, or of the whole channel, with that reason.

    They are marked and due now: the dispatcher ends a marked delivery without calling it, even where the system was
    opened again meanwhile. A delivery that is being called ends unless this call succeeds.
    """
    # Leased ones come first: a delivery whose lease ends meanwhile is found by the conditions after it.
    for condition in ("lease IS NOT NULL", *_NOT_LEASED):
        await connection.execute(_FAIL_ALL.format(condition=condition), channel, system, reason)
    await connection.execute(_WAKE_ALL, channel, system)

"""The queue in Postgres: what is due is claimed by system and lane, so that nobody's backlog costs anybody else.

A line (`invoker.lines`) says when a system's lane may have something due. Whoever makes a delivery due wakes its line
in the same transaction; a claimer takes awake lines (`SKIP LOCKED`), claims as many of each as it has free slots, and
puts each line to sleep until what is due next. So a claim costs what is due, however much waits. A claimer waits for
nobody's lock, and so is part of no deadlock; all others lock deliveries, then circuits, then lines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import uuid4

from services.infrastructure.postgres import Connection, Pool
from services.invoker.pace import Pace

Lane = Literal["test", "first", "retry"]

LANES: tuple[Lane, ...] = ("test", "first", "retry")
"""In the order in which they are claimed."""

_AWAKE_LANES = """
    SELECT lane FROM unnest($1::text[]) AS one(lane)
    WHERE EXISTS (SELECT FROM invoker.lines l WHERE l.lane = one.lane AND l.wake_at <= now())
"""
_AWAKE = """
    SELECT * FROM (
        SELECT l.channel, l.system, l.wake_at, c.open_until IS NOT NULL AND $1 <> 'test' AS probe,
            CASE
                WHEN $1 = 'test' THEN $2
                WHEN c.open_until IS NULL THEN greatest($2 - coalesce(c.failures, 0), 1)
                ELSE 1
            END - coalesce(b.calls, 0) AS free
        FROM invoker.lines l
        LEFT JOIN invoker.circuits c ON c.channel = l.channel AND c.system = l.system
        LEFT JOIN unnest($3::text[], $4::text[], $5::int[]) AS b(channel, system, calls)
            ON b.channel = l.channel AND b.system = l.system
        WHERE l.lane = $1 AND l.wake_at <= now()
            AND ($1 = 'test' OR c.open_until IS NULL OR c.open_until <= now())
            AND ($1 = 'test' OR coalesce(b.calls, 0) < $2)
        ORDER BY coalesce(b.calls, 0), l.wake_at LIMIT $6 FOR UPDATE OF l SKIP LOCKED
    ) AS awake WHERE free > 0
"""
_CLAIM = """
    WITH mine AS (
        SELECT d.id FROM unnest($1::text[], $2::text[], $3::int[]) AS awake(channel, system, free)
        CROSS JOIN LATERAL (
            SELECT id FROM invoker.deliveries
            WHERE channel = awake.channel AND system = awake.system AND lane = $4
                AND state = 'due' AND lease IS NULL AND due_at <= now()
            ORDER BY due_at LIMIT awake.free FOR UPDATE SKIP LOCKED
        ) AS d LIMIT $5
    )
    UPDATE invoker.deliveries d
    SET lease = $6, leased_until = now() + $7, claimed_at = now(), attempts = attempts + 1
    FROM mine WHERE d.id = mine.id
    RETURNING d.id, d.account, d.channel, d.request_id, d.correlation_id, d.system, d.code, d.body, d.attempts,
        d.expires_at, d.lease, d.key_id, d.reason, d.test, d.key_alone, d.excused, d.before_replay, d.replays
"""
_SLEEP = """
    UPDATE invoker.lines l SET wake_at = coalesce((
        SELECT min(d.due_at) FROM invoker.deliveries d
        WHERE d.channel = l.channel AND d.system = l.system AND d.lane = l.lane AND d.state = 'due' AND d.lease IS NULL
    ), 'infinity')
    FROM unnest($1::text[], $2::text[]) AS claimed(channel, system)
    WHERE l.channel = claimed.channel AND l.system = claimed.system AND l.lane = $3
"""
_PROBE = """
    UPDATE invoker.circuits c SET probing = true, open_until = now() + $3
    FROM (
        SELECT c.channel, c.system FROM invoker.circuits c JOIN unnest($1::text[], $2::text[]) AS p(channel, system)
            ON c.channel = p.channel AND c.system = p.system
        FOR UPDATE OF c SKIP LOCKED
    ) AS probed
    WHERE c.channel = probed.channel AND c.system = probed.system
"""
_WAKE = """
    INSERT INTO invoker.lines (channel, system, lane, wake_at)
    SELECT channel, system, lane, min(wake_at) FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[])
        AS w(channel, system, lane, wake_at)
    GROUP BY channel, system, lane ORDER BY channel, system, lane
    ON CONFLICT (channel, system, lane) DO UPDATE SET wake_at = least(lines.wake_at, excluded.wake_at)
"""


_LOOKS = 10

_WAITING = ("state = 'parked'", "state = 'due' AND lease IS NULL")
"""Each as the index has it that finds them."""


@dataclass(frozen=True, slots=True)
class Wake:
    channel: str
    system: str
    lane: Lane
    at: datetime


async def awake_lanes(pool: Pool) -> list[Lane]:
    """The lanes that may have something to claim."""
    awake = {row["lane"] for row in await pool.fetch(_AWAKE_LANES, LANES)}
    return [lane for lane in LANES if lane in awake]


async def claim(pool: Pool, lane: Lane, busy: Mapping[tuple[str, str], int], free: int, pace: Pace) -> list[Any]:
    """Up to ``free`` delivery rows of the lane, leased to the caller. ``busy``: its calls in flight by system.

    Lines that turn out to have nothing due are put to sleep, and others are looked at instead.
    """
    for _ in range(_LOOKS):
        looked, rows = await _claim_some(pool, lane, busy, free, pace)
        if rows or not looked:
            return rows
    return []


async def _claim_some(
    pool: Pool, lane: Lane, busy: Mapping[tuple[str, str], int], free: int, pace: Pace
) -> tuple[bool, list[Any]]:
    """Whether any line was awake, and what was claimed of those that were looked at."""
    keys = list(busy)
    counts = [channel for channel, _ in keys], [system for _, system in keys], [busy[key] for key in keys]
    lease = timedelta(seconds=pace.lease)
    async with pool.acquire() as connection, connection.transaction():
        awake = await connection.fetch(_AWAKE, lane, pace.calls_per_system, *counts, max(free, 100))
        if not awake:
            return False, []
        channels, systems = [row["channel"] for row in awake], [row["system"] for row in awake]
        # Dealt out evenly, so that many waiting for one system do not go before one each for many; what is left over
        # is for the next claim. A receiver is then called on few connections again and again, too.
        share = -(-free // len(awake))
        slots = [min(row["free"], share) for row in awake]
        rows = await connection.fetch(_CLAIM, channels, systems, slots, lane, free, uuid4(), lease)
        claimed = Counter((row["channel"], row["system"]) for row in rows)
        # Where as many were claimed as there were slots, or others took all that were free, more may be due: it stays.
        cut = len(rows) == free
        over = [
            row
            for row, offered in zip(awake, slots, strict=True)
            if (got := claimed[row["channel"], row["system"]]) < offered and not (cut and got == 0)
        ]
        await connection.execute(_SLEEP, [row["channel"] for row in over], [row["system"] for row in over], lane)
        probes = [row for row in awake if row["probe"] and (row["channel"], row["system"]) in claimed]
        if probes:
            probed = [row["channel"] for row in probes], [row["system"] for row in probes]
            await connection.execute(_PROBE, *probed, lease)
    return True, rows


async def wake(connection: Connection, wakes: Iterable[Wake]) -> None:
    """To be called last in a transaction: its rows are locked until the end, and claimers pass locked lines by."""
    some = list(wakes)
    if some:
        await connection.execute(
            _WAKE, [w.channel for w in some], [w.system for w in some], [w.lane for w in some], [w.at for w in some]
        )


async def park(connection: Connection, channel: str, system: str) -> None:
    """What waits for the system waits no longer for a time, but for its being enabled; test calls go on."""
    await connection.execute(
        "UPDATE invoker.deliveries SET state = 'parked' "
        "WHERE channel = $1 AND system = $2 AND state = 'due' AND lease IS NULL AND NOT test",
        channel,
        system,
    )


async def hurry(connection: Connection, channel: str, system: str) -> None:
    """Everything that waits for the system is due at once."""
    for waiting in _WAITING:
        await connection.execute(
            f"UPDATE invoker.deliveries SET state = 'due', due_at = now() "  # noqa: S608 -- our words
            f"WHERE channel = $1 AND system = $2 AND {waiting}",
            channel,
            system,
        )
    await _wake_all(connection, channel, system)


async def doom(connection: Connection, channel: str, system: str | None, reason: str) -> None:
    """Everything that waits for the system, or for any of the channel's, ends at once, with that reason.

    It is marked, and so ends too where the system is opened again before a worker comes by; what is being called just
    now ends unless it succeeds.
    """
    for waiting in ("lease IS NOT NULL", *_WAITING):  # what ends meanwhile waits then, and is found there
        await connection.execute(
            f"UPDATE invoker.deliveries SET state = 'due', due_at = now(), reason = $3 "  # noqa: S608 -- our words
            f"WHERE channel = $1 AND ($2::text IS NULL OR system = $2) AND {waiting}",
            channel,
            system,
            reason,
        )
    await _wake_all(connection, channel, system)


async def _wake_all(connection: Connection, channel: str, system: str | None) -> None:
    await connection.execute(
        "INSERT INTO invoker.lines SELECT DISTINCT $1, d.system, d.lane, now() FROM invoker.deliveries d "
        "WHERE d.channel = $1 AND ($2::text IS NULL OR d.system = $2) AND d.state = 'due' AND d.lease IS NULL "
        "ON CONFLICT (channel, system, lane) DO UPDATE SET wake_at = now()",
        channel,
        system,
    )

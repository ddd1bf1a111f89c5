"""Claiming: deliveries that are due, leased to a worker, fairly between business systems.

A claimer takes queues that are awake (`SKIP LOCKED`), claims as many deliveries of each as the system has free slots,
and puts each queue to sleep until its next delivery is due. So a claim costs what is due, not what the queue holds, and
one system's backlog delays no other system. A system that is not verified is offered one call at a time, with a pause
after each (decision 38). A claimer never waits for a lock, so it is part of no deadlock; all other
code locks deliveries, then circuits, then queues.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import uuid4

from services.infrastructure.postgres import Connection, Pool
from services.invoker.limits import Limits
from services.invoker.queue.delivery import DELIVERY_COLUMNS, Delivery, SystemKey, delivery_of
from services.invoker.queue.scheduling import LANES, Lane

_AWAKE_LANES = """
    SELECT lane FROM unnest($1::text[]) AS one(lane)
    WHERE EXISTS (SELECT FROM invoker.queues l WHERE l.lane = one.lane AND l.wake_at <= now())
"""
_AWAKE_QUEUES = """
    SELECT * FROM (
        SELECT l.channel, l.system, l.wake_at, c.open_until IS NOT NULL AND $1 <> 'test' AS probe,
            s.system IS NOT NULL AND s.verified_at IS NULL AND $1 <> 'test' AS unverified,
            CASE
                WHEN $1 = 'test' THEN $2
                WHEN s.system IS NOT NULL AND s.verified_at IS NULL THEN 1
                WHEN c.open_until IS NULL THEN greatest($2 - coalesce(c.failures, 0), 1)
                ELSE 1
            END - coalesce(b.calls, 0) AS free
        FROM invoker.queues l
        LEFT JOIN invoker.circuits c ON c.channel = l.channel AND c.system = l.system
        LEFT JOIN invoker.business_systems s ON s.channel = l.channel AND s.system = l.system
        LEFT JOIN unnest($3::text[], $4::text[], $5::int[]) AS b(channel, system, calls)
            ON b.channel = l.channel AND b.system = l.system
        WHERE l.lane = $1 AND l.wake_at <= now()
            AND ($1 = 'test' OR c.open_until IS NULL OR c.open_until <= now())
            AND ($1 = 'test' OR coalesce(b.calls, 0) < $2)
            AND ($1 = 'test' OR s.verified_at IS NOT NULL OR s.next_call_at IS NULL OR s.next_call_at <= now())
        ORDER BY coalesce(b.calls, 0), l.wake_at LIMIT $6 FOR UPDATE OF l SKIP LOCKED
    ) AS awake WHERE free > 0
"""
_CLAIM = f"""
    WITH mine AS (
        SELECT d.id FROM unnest($1::text[], $2::text[], $3::int[]) AS awake(channel, system, free)
        CROSS JOIN LATERAL (
            SELECT id FROM invoker.deliveries
            WHERE channel = awake.channel AND system = awake.system AND lane = $4
                AND state = 'due' AND lease IS NULL AND due_at <= now() AND (expires_at IS NULL OR expires_at > now())
            ORDER BY due_at LIMIT awake.free FOR UPDATE SKIP LOCKED
        ) AS d LIMIT $5
    )
    UPDATE invoker.deliveries d
    SET lease = $6, leased_until = now() + $7, claimed_at = now(), attempts = attempts + 1
    FROM mine WHERE d.id = mine.id
    RETURNING {DELIVERY_COLUMNS}
"""  # noqa: S608 -- a constant of ours
_SLEEP = """
    UPDATE invoker.queues l SET wake_at = coalesce((
        SELECT min(d.due_at) FROM invoker.deliveries d
        WHERE d.channel = l.channel AND d.system = l.system AND d.lane = l.lane AND d.state = 'due' AND d.lease IS NULL
            AND (d.expires_at IS NULL OR d.expires_at > now())
    ), 'infinity')
    FROM unnest($1::text[], $2::text[]) AS claimed(channel, system)
    WHERE l.channel = claimed.channel AND l.system = claimed.system AND l.lane = $3
"""
_START_PROBES = """
    UPDATE invoker.circuits c SET probing = true, open_until = now() + $3
    FROM (
        SELECT c.channel, c.system FROM invoker.circuits c JOIN unnest($1::text[], $2::text[]) AS p(channel, system)
            ON c.channel = p.channel AND c.system = p.system
        FOR UPDATE OF c SKIP LOCKED
    ) AS probed
    WHERE c.channel = probed.channel AND c.system = probed.system
"""
_PACE_UNVERIFIED = """
    UPDATE invoker.business_systems s SET next_call_at = now() + $3
    FROM (
        SELECT s.channel, s.system FROM unnest($1::text[], $2::text[]) AS p(channel, system)
        JOIN invoker.business_systems s ON s.channel = p.channel AND s.system = p.system
        WHERE s.verified_at IS NULL FOR UPDATE OF s SKIP LOCKED
    ) AS paced
    WHERE s.channel = paced.channel AND s.system = paced.system
"""
_MAX_ROUNDS = 10
_MIN_QUEUES = 100
"""So many queues are looked at in a round at least, however few slots are free."""


async def awake_lanes(pool: Pool) -> list[Lane]:
    """The lanes in which something may be due."""
    awake = {row["lane"] for row in await pool.fetch(_AWAKE_LANES, LANES)}
    return [lane for lane in LANES if lane in awake]


async def claim(
    pool: Pool, lane: Lane, in_flight: Mapping[SystemKey, int], slots: int, limits: Limits
) -> list[Delivery]:
    """Up to ``slots`` deliveries of the lane, leased to the caller. ``in_flight``: its current calls by system.

    A round that finds queues awake but nothing due puts them to sleep; the next round looks at others.
    """
    for _ in range(_MAX_ROUNDS):
        async with pool.acquire() as connection, connection.transaction():
            queues = await _lock_awake_queues(connection, lane, in_flight, max(slots, _MIN_QUEUES), limits)
            deliveries = await _claim_from(connection, queues, lane, slots, limits) if queues else []
        if deliveries or not queues:
            return deliveries
    return []


async def _lock_awake_queues(
    connection: Connection, lane: Lane, in_flight: Mapping[SystemKey, int], count: int, limits: Limits
) -> list[Any]:
    channels, systems = [channel for channel, _ in in_flight], [system for _, system in in_flight]
    calls = list(in_flight.values())
    return await connection.fetch(_AWAKE_QUEUES, lane, limits.max_calls_per_system, channels, systems, calls, count)


async def _claim_from(
    connection: Connection, queues: list[Any], lane: Lane, slots: int, limits: Limits
) -> list[Delivery]:
    channels, systems = [queue["channel"] for queue in queues], [queue["system"] for queue in queues]
    lease = timedelta(seconds=limits.lease_duration)
    # Every queue is offered an equal share, so that a backlog of one system does not displace single deliveries of
    # many; what is left over is for the next claim. It also keeps the connections to a receiver few and reused.
    share = -(-slots // len(queues))
    offers = [min(queue["free"], share) for queue in queues]
    rows = await connection.fetch(_CLAIM, channels, systems, offers, lane, slots, uuid4(), lease)
    deliveries = [delivery_of(row) for row in rows]
    claimed = Counter(delivery.system_key for delivery in deliveries)
    all_slots_used = len(deliveries) == slots
    # A queue stays awake where more may be due: it filled its offer, or the slots ran out before its turn.
    drained = [
        (queue["channel"], queue["system"])
        for queue, offered in zip(queues, offers, strict=True)
        if (count := claimed[queue["channel"], queue["system"]]) < offered and not (all_slots_used and count == 0)
    ]
    await connection.execute(_SLEEP, [channel for channel, _ in drained], [system for _, system in drained], lane)
    probes = [queue for queue in queues if queue["probe"] and (queue["channel"], queue["system"]) in claimed]
    if probes:
        channels, systems = [queue["channel"] for queue in probes], [queue["system"] for queue in probes]
        await connection.execute(_START_PROBES, channels, systems, lease)
    paced = [queue for queue in queues if queue["unverified"] and (queue["channel"], queue["system"]) in claimed]
    if paced:
        channels, systems = [queue["channel"] for queue in paced], [queue["system"] for queue in paced]
        await connection.execute(_PACE_UNVERIFIED, channels, systems, timedelta(seconds=limits.unverified_interval))
    return deliveries

"""Metrics of signed calls, read from the database: every process exposes the same, however many invokers run."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from services.infrastructure.postgres import Pool
from services.invoker.poison import POISON_COUNTER

RESULTS = ("delivered", "dead", "retried", "parked", "put_back", "lost")
_UNENDED = ("waiting", "due", "in_flight", "parked")

_SELECT_UNENDED = """
    SELECT state, count, extract(epoch FROM now() - oldest)::float AS oldest FROM (
        SELECT 'due' AS state, count(*) AS count, min(created_at) AS oldest
            FROM invoker.deliveries WHERE state = 'due' AND lease IS NULL
        UNION ALL SELECT 'in_flight', count(*), min(created_at) FROM invoker.deliveries WHERE lease IS NOT NULL
        UNION ALL SELECT 'waiting', count(*), min(created_at) FROM invoker.deliveries WHERE state = 'waiting'
        UNION ALL SELECT 'parked', count(*), min(created_at) FROM invoker.deliveries WHERE state = 'parked'
    ) AS counted WHERE count > 0
"""
_SELECT_OVERDUE = """
    SELECT coalesce(extract(epoch FROM now() - min(wake_at)), 0)::float
    FROM invoker.queues l WHERE wake_at <= now() AND NOT EXISTS (
        SELECT FROM invoker.circuits c WHERE c.channel = l.channel AND c.system = l.system AND c.open_until > now()
    ) AND NOT EXISTS (
        SELECT FROM invoker.business_systems s
        WHERE s.channel = l.channel AND s.system = l.system AND s.verified_at IS NULL)
"""
_SELECT_FAILING = """
    SELECT c.account, b.channel, b.system, b.failures, b.failing_since, b.open_until AS circuit_open_until
    FROM invoker.circuits b JOIN invoker.channels c ON c.channel = b.channel
    WHERE b.failures > 0 ORDER BY b.failing_since, b.channel, b.system LIMIT 50
"""
_COUNT_OPEN_CIRCUITS = "SELECT count(*) FROM invoker.circuits WHERE open_until IS NOT NULL"


async def failing_systems(pool: Pool) -> list[dict[str, Any]]:
    """The systems whose last calls failed, with the channel's account; at most 50, the longest first."""
    return [
        {name: _instant(value) if isinstance(value, datetime) else value for name, value in row.items()}
        for row in await pool.fetch(_SELECT_FAILING)
    ]


async def unended_deliveries(pool: Pool) -> dict[str, int]:
    """How many deliveries have not ended, by state."""
    found = {row["state"]: row["count"] for row in await pool.fetch(_SELECT_UNENDED)}
    return {state: found.get(state, 0) for state in _UNENDED}


def _instant(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def families(pool: Pool) -> list[GaugeMetricFamily | CounterMetricFamily]:
    """The metrics now."""
    rows = {row["state"]: row for row in await pool.fetch(_SELECT_UNENDED)}
    totals = dict(await pool.fetch("SELECT name, total FROM invoker.counters"))
    count = GaugeMetricFamily("switchboard_deliveries", "Deliveries that have not ended.", labels=["state"])
    oldest = GaugeMetricFamily(
        "switchboard_deliveries_oldest_seconds", "Age of the oldest that has not ended.", labels=["state"]
    )
    for state in _UNENDED:
        row = rows.get(state)
        count.add_metric([state], row["count"] if row else 0)
        oldest.add_metric([state], row["oldest"] if row else 0)
    results = CounterMetricFamily("switchboard_delivery_results", "Results of claimed deliveries.", labels=["result"])
    for result in RESULTS:
        results.add_metric([result], totals.get(result, 0))
    overdue = GaugeMetricFamily(
        "switchboard_deliveries_overdue_seconds",
        "How long the delivery that is due longest has waited for a slot.",
        value=await pool.fetchval(_SELECT_OVERDUE),
    )
    circuits = GaugeMetricFamily(
        "switchboard_circuits_open",
        "Systems whose circuit is open: not called, or probed.",
        value=await pool.fetchval(_COUNT_OPEN_CIRCUITS),
    )
    outbox = GaugeMetricFamily(
        "switchboard_invocations_unpublished",
        "Outcomes that are not published to Kafka yet.",
        value=await pool.fetchval("SELECT count(*) FROM invoker.outbox"),
    )
    poison = CounterMetricFamily(
        "switchboard_invocation_poison",
        "Requests that were refused because their handling raised.",
        value=totals.get(POISON_COUNTER, 0),
    )
    return [count, oldest, results, overdue, circuits, outbox, poison]

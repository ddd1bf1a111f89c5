"""Metrics of signed calls, read from the database: the same whichever process is asked, and however many invoke."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from services.infrastructure.postgres import Pool

RESULTS = ("delivered", "dead", "retried", "parked", "put_back", "lost")

_QUEUE = """
    SELECT state, count, extract(epoch FROM now() - oldest)::float AS oldest FROM (
        SELECT 'due' AS state, count(*) AS count, min(created_at) AS oldest
            FROM invoker.deliveries WHERE state = 'due' AND lease IS NULL
        UNION ALL SELECT 'in_flight', count(*), min(created_at) FROM invoker.deliveries WHERE lease IS NOT NULL
        UNION ALL SELECT 'waiting', count(*), min(created_at) FROM invoker.deliveries WHERE state = 'waiting'
        UNION ALL SELECT 'parked', count(*), min(created_at) FROM invoker.deliveries WHERE state = 'parked'
    ) AS counted WHERE count > 0
"""
_OVERDUE = """
    SELECT coalesce(extract(epoch FROM now() - min(wake_at)), 0)::float
    FROM invoker.lines l WHERE wake_at <= now() AND NOT EXISTS (
        SELECT FROM invoker.circuits c WHERE c.channel = l.channel AND c.system = l.system AND c.open_until > now())
"""
_OPEN = "SELECT count(*) FROM invoker.circuits WHERE open_until IS NOT NULL"


class _Found(Collector):
    def __init__(self, metrics: list[GaugeMetricFamily | CounterMetricFamily]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        yield from self._metrics


async def exposition(pool: Pool) -> bytes:
    """The metrics now, in Prometheus' text format."""
    rows = {row["state"]: row for row in await pool.fetch(_QUEUE)}
    totals = dict(await pool.fetch("SELECT name, total FROM invoker.tallies"))
    count = GaugeMetricFamily("switchboard_deliveries", "Deliveries that have not ended.", labels=["state"])
    oldest = GaugeMetricFamily(
        "switchboard_deliveries_oldest_seconds", "Age of the oldest that has not ended.", labels=["state"]
    )
    for state in ("waiting", "due", "in_flight", "parked"):
        row = rows.get(state)
        count.add_metric([state], row["count"] if row else 0)
        oldest.add_metric([state], row["oldest"] if row else 0)
    results = CounterMetricFamily("switchboard_delivery_results", "What came of claimed deliveries.", labels=["result"])
    for result in RESULTS:
        results.add_metric([result], totals.get(result, 0))
    overdue = GaugeMetricFamily(
        "switchboard_deliveries_overdue_seconds",
        "How long the longest due one waits for a slot.",
        value=await pool.fetchval(_OVERDUE),
    )
    circuits = GaugeMetricFamily(
        "switchboard_circuits_open", "Systems that are not called, or probed only.", value=await pool.fetchval(_OPEN)
    )
    outbox = GaugeMetricFamily(
        "switchboard_invocations_unpublished",
        "Outcomes that are not on Kafka yet.",
        value=await pool.fetchval("SELECT count(*) FROM invoker.outbox"),
    )
    registry = CollectorRegistry()
    registry.register(_Found([count, oldest, results, overdue, circuits, outbox]))
    return generate_latest(registry)

"""Metrics of message routing, read from the database: every process exposes the same, however many routers run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from services.infrastructure.postgres import Pool

Family = CounterMetricFamily | GaugeMetricFamily

_COUNTERS = {
    "decisions": ("switchboard_message_decisions", "Decisions about messages.", ["route", "rule"]),
    "refusals": ("switchboard_message_requests_refused", "Requests that led to no decision.", ["reason"]),
    "refused_statuses": ("switchboard_message_statuses_refused", "Statuses that led to nothing.", ["reason"]),
    "reservations": ("switchboard_reservations_settled", "How reservations of units ended.", ["ended"]),
    "fallbacks": ("switchboard_sms_fallbacks", "SMS fallbacks that were due, or why they were not.", ["result"]),
    "poison": ("switchboard_message_router_poison", "What was set aside because its handling raised.", ["kind"]),
    "charges": ("switchboard_messages_charged", "Messages charged as scheduled.", ["country"]),
}
_SELECT_COUNTERS = "SELECT name, labels, sum(total)::bigint AS total FROM message_router.counters GROUP BY name, labels"
_SELECT_POOL = """
    SELECT resource, country, units - taken AS available,
        (valid_until < extract(epoch FROM now()) * 1000)::int AS stale
    FROM message_router.resources WHERE NOT withdrawn ORDER BY resource
"""
# All of these are found by partial indexes, whose size is what they count.
_SELECT_OPEN = """
    SELECT count(*) FILTER (WHERE reservation = 'reserved') AS reservations,
        count(*) FILTER (WHERE fallback IN ('armed', 'failed')) AS fallbacks,
        coalesce(greatest(0, extract(epoch FROM now()) - min(next_timer) / 1000.0), 0)::float AS overdue,
        (SELECT count(*) FROM message_router.messages WHERE state = 'waiting') AS waiting,
        (SELECT count(*) FROM message_router.outbox) AS unpublished
    FROM message_router.messages WHERE next_timer IS NOT NULL
"""
_GAUGES = {
    "reservations": ("switchboard_reservations_open", "Units that are reserved and neither posted nor free again."),
    "fallbacks": ("switchboard_sms_fallbacks_armed", "SMS fallbacks that may still be due."),
    "overdue": ("switchboard_message_timers_overdue_seconds", "How long the timer that is due longest has waited."),
    "waiting": ("switchboard_message_requests_waiting", "Requests that wait for their settings."),
    "unpublished": ("switchboard_message_records_unpublished", "Records that are not published to Kafka yet."),
}


async def families(pool: Pool) -> list[Family]:
    """The metrics now."""
    counters = await pool.fetch(_SELECT_COUNTERS)
    [now] = await pool.fetch(_SELECT_OPEN)
    gauges = [GaugeMetricFamily(name, about, value=now[column]) for column, (name, about) in _GAUGES.items()]
    return [*_counters(counters), *_pool(await pool.fetch(_SELECT_POOL)), *gauges]


def _counters(rows: list[Any]) -> Iterator[Family]:
    for counter, (name, about, labels) in _COUNTERS.items():
        family = CounterMetricFamily(name, about, labels=labels)
        for row in rows:
            if row["name"] == counter:
                family.add_metric(row["labels"], row["total"])
        yield family


def _pool(rows: list[Any]) -> Iterator[Family]:
    units = GaugeMetricFamily(
        "switchboard_scheduling_resource_units", "Units left of a resource.", labels=["resource", "country"]
    )
    stale = GaugeMetricFamily(
        "switchboard_scheduling_resource_stale",
        "1 where a resource's report is too old.",
        labels=["resource", "country"],
    )
    for row in rows:
        labels = [row["resource"], row["country"]]
        units.add_metric(labels, row["available"])
        stale.add_metric(labels, row["stale"])
    yield from (units, stale)

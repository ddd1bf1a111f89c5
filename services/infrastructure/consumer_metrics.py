"""Metrics of reading partitions: how far a consumer is behind, what it applied, and how often it had to go back.

The lag is ours: Kafka's group offsets stay one behind for ever on topics that are written in transactions, because the
last offset is a transaction's marker. It counts such markers while they are not read; a consumer that has read
everything is at 0.
"""

from __future__ import annotations

import time
from typing import Any

from aiokafka import TopicPartition
from prometheus_client import Counter, Gauge, Histogram

_LABELS = ("consumer", "topic", "partition")
_LAG_RECORDS = Gauge("switchboard_consumer_lag_records", "Offsets between what is applied and the end.", _LABELS)
_LAG_SECONDS = Gauge("switchboard_consumer_lag_seconds", "Age of the oldest record that is not applied.", _LABELS)
_APPLIED = Counter("switchboard_consumer_records_applied", "Records applied.", ("consumer", "topic"))
_APPLYING = Histogram(
    "switchboard_consumer_transaction_seconds",
    "Time of a transaction that applies records, with its commit.",
    ("consumer",),
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30),
)
_SOUGHT_BACK = Counter("switchboard_consumer_batches_failed", "Batches that were not applied.", ("consumer", "reason"))


class ConsumerMetrics:
    """Of one consumer of this process; counts per batch, not per record."""

    def __init__(self, consumer: str) -> None:
        self._consumer = consumer
        self._working: dict[TopicPartition, tuple[int, float]] = {}
        """Offset and Unix time of the first record of each batch that is not applied yet."""
        self._behind_since: dict[TopicPartition, float] = {}

    def begun(self, partition: TopicPartition, first: Any) -> None:
        """A batch came that begins with this record."""
        self._working[partition] = (first.offset, first.timestamp / 1000)

    def done(self, partition: TopicPartition) -> None:
        self._working.pop(partition, None)

    def failed(self, reason: str) -> None:
        """The batch stays the oldest one that is not applied."""
        _SOUGHT_BACK.labels(self._consumer, reason).inc()

    def committed(self, partition: TopicPartition, records: int, seconds: float) -> None:
        _APPLIED.labels(self._consumer, partition.topic).inc(records)
        _APPLYING.labels(self._consumer).observe(seconds)

    def measure(self, partition: TopicPartition, position: int, end: int | None) -> None:
        """``position`` is the next offset to be fetched, ``end`` the last stable offset, if one is known yet."""
        offset, since = self._working.get(partition, (position, 0.0))
        behind = max(0, (end or 0) - min(offset, position)) or int(partition in self._working)
        if not behind:
            self._behind_since.pop(partition, None)
            since = now = 0.0
        else:
            now = time.time()
            known = self._behind_since.setdefault(partition, now)
            since = since or known
        labels = (self._consumer, partition.topic, str(partition.partition))
        _LAG_RECORDS.labels(*labels).set(behind)
        _LAG_SECONDS.labels(*labels).set(max(0.0, now - since))

    def revoked(self, partition: TopicPartition) -> None:
        """Another process shows its lag from now on."""
        self._working.pop(partition, None)
        self._behind_since.pop(partition, None)
        for gauge in (_LAG_RECORDS, _LAG_SECONDS):
            gauge.remove(self._consumer, partition.topic, str(partition.partition))

"""How far a consumer is behind: in records, and in seconds of the oldest one that is not applied."""

from __future__ import annotations

import time
from dataclasses import dataclass

from aiokafka import TopicPartition
from prometheus_client import REGISTRY

from services.infrastructure.consumer_metrics import ConsumerMetrics

PARTITION = TopicPartition("lag-of-a-test", 3)


@dataclass
class Record:
    offset: int
    timestamp: int


def shown(of: str) -> float | None:
    labels = {"consumer": "lag-of-a-test", "topic": PARTITION.topic, "partition": "3"}
    return REGISTRY.get_sample_value(f"switchboard_consumer_lag_{of}", labels)


def test_it_is_behind_until_the_oldest_record_is_applied() -> None:
    metrics = ConsumerMetrics("lag-of-a-test")
    metrics.measure(PARTITION, 5, 5)
    assert (shown("records"), shown("seconds")) == (0, 0)

    metrics.begun(PARTITION, Record(5, int((time.time() - 60) * 1000)))
    metrics.measure(PARTITION, 9, 12)  # fetched up to 9, applied up to 5
    assert shown("records") == 7
    assert (shown("seconds") or 0) >= 60

    metrics.done(PARTITION)
    metrics.measure(PARTITION, 9, 12)
    assert shown("records") == 3

    metrics.revoked(PARTITION)
    assert shown("records") is None

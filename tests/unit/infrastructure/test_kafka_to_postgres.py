"""What FastStream and aiokafka do unasked, and must not do here."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.protocol.metadata import MetadataRequest, MetadataRequest_v5
from faststream import AckPolicy

from services.infrastructure.config import Settings
from services.infrastructure.kafka_to_postgres import Consumer


@pytest.fixture
def subscriber() -> Any:
    settings = Settings.from_environment({"SWITCHBOARD_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9092"})
    pool: Any = None
    [subscriber] = Consumer(settings, pool, "test", {"some.topic": pool})._broker.subscribers
    return subscriber


def test_the_consumer_commits_nothing_by_itself(subscriber: Any) -> None:
    assert subscriber.ack_policy is AckPolicy.MANUAL
    assert subscriber._connection_args["enable_auto_commit"] is False


def test_the_consumer_reads_committed_records_from_the_earliest_on(subscriber: Any) -> None:
    assert subscriber._connection_args["isolation_level"] == "read_committed"
    assert subscriber._connection_args["auto_offset_reset"] == "earliest"


def test_nobody_makes_a_topic_by_asking_about_it(subscriber: Any) -> None:
    assert subscriber._outer_config.allow_auto_create_topics is False
    request: Any = MetadataRequest(["some.topic"]).build(MetadataRequest_v5)
    assert request.encode().endswith(b"some.topic\0"), "the last byte lets the broker make it"

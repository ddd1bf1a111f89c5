"""Reads a topic's committed records with another Kafka client than the product's."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from confluent_kafka import Consumer, TopicPartition

_TIMEOUT_S = 20


class Record(NamedTuple):
    """A committed record. ``value`` is its bytes, ``json`` what they say."""

    partition: int
    offset: int
    key: str
    value: bytes
    json: dict[str, Any]


def read(kafka: dict[str, Any], topic: str) -> list[Record]:
    """Every committed record of a topic, by partition, in order. ``kafka`` is librdkafka's configuration."""
    consumer = Consumer(
        kafka
        | {
            "group.id": "oracle",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": False,
        }
    )
    try:
        partitions = consumer.list_topics(topic, timeout=_TIMEOUT_S).topics[topic].partitions
        return [record for number in sorted(partitions) for record in _read_partition(consumer, topic, number)]
    finally:
        consumer.close()


def _read_partition(consumer: Consumer, topic: str, number: int) -> list[Record]:
    first, end = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=_TIMEOUT_S)
    consumer.assign([TopicPartition(topic, number, first)])
    records: list[Record] = []
    while consumer.position([TopicPartition(topic, number)])[0].offset < end:
        for message in consumer.consume(10_000, timeout=1.0):
            if message.error():
                raise RuntimeError(f"{topic}/{number} cannot be read: {message.error()}")
            offset, value = message.offset() or 0, message.value() or b""
            if offset < end:
                records.append(Record(number, offset, (message.key() or b"").decode(), value, json.loads(value)))
        if first == end:
            break
    return records

"""The bytes of the topics, read by a plain client, as what the checker folds."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from contracts import topics
from contracts.topics import Topic


class Record(NamedTuple):
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]

    @property
    def json(self) -> dict[str, Any]:
        """Empty where the value is no JSON object."""
        try:
            parsed = json.loads(self.value or b"null")
        except ValueError:
            return {}
        return parsed if isinstance(parsed, dict) else {}


@dataclass(slots=True)
class Log:
    """Records by topic, each partition's in its order."""

    topics: dict[str, list[Record]] = field(default_factory=lambda: defaultdict(list))

    def of(self, topic: Topic) -> list[Record]:
        return self.topics[topic.name]


async def read_log(bootstrap_servers: str, partitions: int) -> Log:
    """All committed records of all topics."""
    log = Log()
    consumer: Any = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers, isolation_level="read_committed", enable_auto_commit=False
    )
    await consumer.start()
    try:
        tps = [TopicPartition(topic.name, number) for topic in topics.TOPICS for number in range(partitions)]
        consumer.assign(tps)
        ends = await consumer.end_offsets(tps)
        for tp in tps:
            consumer.seek(tp, 0)
        while any([await consumer.position(tp) < ends[tp] for tp in tps]):
            for tp, found in (await consumer.getmany(timeout_ms=200)).items():
                log.topics[tp.topic] += [
                    Record(one.partition, one.offset, one.timestamp, one.key, one.value, dict(one.headers))
                    for one in found
                ]
    finally:
        await consumer.stop()
    return log

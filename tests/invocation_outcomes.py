"""Outcomes of invocations, read from Kafka."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from contracts import topics
from contracts.partitioner import partition_of
from tests.installation import Installation
from tests.patience import PATIENCE_S
from tests.servers import PARTITIONS


async def outcomes_of(installation: Installation, channel: str, request_id: str) -> list[dict[str, Any]]:
    """All outcomes of a request on `switchboard.invocations`."""
    tp = TopicPartition(topics.INVOCATIONS.name, partition_of(channel, PARTITIONS))
    consumer = AIOKafkaConsumer(bootstrap_servers=installation.bootstrap_servers, isolation_level="read_committed")
    await consumer.start()
    found = []
    try:
        consumer.assign([tp])
        end = (await consumer.end_offsets([tp]))[tp]
        consumer.seek(tp, 0)
        while await consumer.position(tp) < end:
            for record in (await consumer.getmany(tp, timeout_ms=500)).get(tp, ()):
                envelope = json.loads(record.value)
                if envelope["causationid"] == request_id:
                    found.append(envelope)
    finally:
        await consumer.stop()
    return found


async def outcome_of(installation: Installation, channel: str, request_id: str) -> dict[str, Any]:
    """The one outcome of a request."""
    async with asyncio.timeout(PATIENCE_S):
        while not (found := await outcomes_of(installation, channel, request_id)):
            pass  # reading to the topic's end takes its time
    assert len({one["id"] for one in found}) == 1
    return found[0]

"""Whether the replicas of all topics are in sync."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from contracts import topics
from services.infrastructure.embedded.cluster import SIZE

_IN_SYNC_S = 90


async def in_sync(bootstrap_servers: str) -> bool:
    """Whether every partition has all replicas in sync; waits for it for a while."""
    names = [topic.name for topic in topics.TOPICS]
    for _ in range(_IN_SYNC_S * 2):
        try:
            described = await describe_topics(bootstrap_servers, names)
        except (KafkaError, OSError):
            described = []
        replicas = [len(one["isr"]) for topic in described for one in topic["partitions"]]
        if replicas and min(replicas) == SIZE:
            return True
        await asyncio.sleep(0.5)
    return False


async def describe_topics(bootstrap_servers: str, names: Sequence[str]) -> list[Any]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        return list(await admin.describe_topics(list(names)))
    finally:
        await admin.close()

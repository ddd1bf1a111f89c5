"""The lanes of the contestants: the product's own topics, and the bare loops' with the same settings."""

from __future__ import annotations

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from contracts import topics
from tests.bench.traffic import Lane

OURS = Lane(topics.COMMANDS.name, topics.OUTCOMES.name)


async def make_bare_lane(bootstrap_servers: str, prefix: str, partitions: int) -> Lane:
    like = {
        "commands": topics.COMMANDS,
        "events": topics.EVENTS,
        "outcomes": topics.OUTCOMES,
        "state": topics.CHANNEL_STATE,
    }
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        await admin.create_topics(
            [NewTopic(f"{prefix}.{name}", partitions, 1, topic_configs=topic.settings) for name, topic in like.items()]
        )
    finally:
        await admin.close()
    return Lane(f"{prefix}.commands", f"{prefix}.outcomes")

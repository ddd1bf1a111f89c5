"""The topics of the contestants: the product's own, and those of the bare loops with the same settings."""

from __future__ import annotations

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from contracts import topics
from tests.bench.load_driver import TopicPair

OUR_TOPICS = TopicPair(topics.COMMANDS.name, topics.OUTCOMES.name)


async def create_bare_topics(bootstrap_servers: str, prefix: str, partitions: int) -> TopicPair:
    like = {
        "commands": topics.COMMANDS,
        "events": topics.EVENTS,
        "outcomes": topics.OUTCOMES,
        "state": topics.CHANNEL_STATE,
    }
    replicas = len(bootstrap_servers.split(","))
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        await admin.create_topics(
            [
                NewTopic(f"{prefix}.{name}", partitions, replicas, topic_configs=topic.settings)
                for name, topic in like.items()
            ]
        )
    finally:
        await admin.close()
    return TopicPair(f"{prefix}.commands", f"{prefix}.outcomes")

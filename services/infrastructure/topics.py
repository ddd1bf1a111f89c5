"""Creates the missing topics and aligns the settings of the others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code

from contracts.topics import TOPICS
from services.infrastructure.config import SettingsError

_REPLICATED = {"min.insync.replicas": "2"}


async def topic_settings(
    bootstrap_servers: str, names: Iterable[str], security: dict[str, Any]
) -> dict[str, dict[str, str]]:
    """The broker's settings of each topic, by topic and setting name."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, **security)
    await admin.start()
    try:
        wanted = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        answers = await admin.describe_configs(wanted)
    finally:
        await admin.close()
    return {
        name: {entry[0]: entry[1] for entry in entries}
        for answer in answers
        for _, _, _, name, entries in answer.resources
    }


async def partition_count(bootstrap_servers: str, name: str, security: dict[str, Any]) -> int:
    """The topic's number of partitions; 0 if the topic does not exist."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, **security)
    await admin.start()
    try:
        (described,) = await admin.describe_topics([name])
        return len(described["partitions"])
    finally:
        await admin.close()


async def apply_topics(bootstrap_servers: str, partitions: int, security: dict[str, Any]) -> list[str]:
    """Creates missing topics and aligns settings. Returns a line per topic.

    Topics get three replicas if there are three brokers. Raises `SettingsError` if a topic has another number
    of partitions: a channel is assigned to a partition by hash, so the number can never change.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, **security)
    await admin.start()
    try:
        brokers = len((await admin.describe_cluster())["brokers"])
        replicas = 3 if brokers >= 3 else 1
        extra = _REPLICATED if replicas == 3 else {}
        existing = {
            topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics() if topic["topic"]
        }
        for topic in TOPICS:
            found = existing.get(topic.name, partitions)
            if found != partitions:
                raise SettingsError(
                    f"Topic {topic.name} has {found} partitions, but SWITCHBOARD_PARTITIONS is {partitions}; "
                    f"set it to {found}: the number cannot change once there are channels."
                )
        lines = []
        missing = [topic for topic in TOPICS if topic.name not in existing]
        created = (
            await admin.create_topics(
                [NewTopic(topic.name, partitions, replicas, topic_configs=topic.settings | extra) for topic in missing]
            )
            if missing
            else None
        )
        for name, code, message in created.topic_errors if created else ():
            error = for_code(code)
            if code and error is not TopicAlreadyExistsError:
                raise SettingsError(f"Topic {name} cannot be created: {message or error.__name__}.")
            lines.append(f"created {name}")
        for topic in TOPICS:
            if topic.name in existing:
                settings = topic.settings | extra
                await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic.name, settings)])
                lines.append(f"checked {topic.name}")
        return lines
    finally:
        await admin.close()

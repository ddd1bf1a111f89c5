"""Makes the topics, and checks those that are there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code

from contracts.topics import TOPICS
from services.infrastructure.settings import SettingsError

_REPLICATED = {"min.insync.replicas": "2"}


async def settings_of(
    bootstrap_servers: str, names: Iterable[str], security: dict[str, Any]
) -> dict[str, dict[str, str]]:
    """The settings that the broker has for each topic, by topic and name."""
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


async def partitions_of(bootstrap_servers: str, name: str, security: dict[str, Any]) -> int:
    """How many partitions the topic has; 0 where it is not there."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, **security)
    await admin.start()
    try:
        (described,) = await admin.describe_topics([name])
        return len(described["partitions"])
    finally:
        await admin.close()


async def apply_topics(bootstrap_servers: str, partitions: int, security: dict[str, Any]) -> list[str]:
    """Makes what is missing, aligns settings, and says so, a line a topic.

    Three replicas where there are three brokers. Raises `SettingsError` where a topic has another number of
    partitions: channels live on a partition, so that number can never change.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, **security)
    await admin.start()
    try:
        brokers = len((await admin.describe_cluster())["brokers"])
        replicas = 3 if brokers >= 3 else 1
        extra = _REPLICATED if replicas == 3 else {}
        there = {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics() if topic["topic"]}
        for topic in TOPICS:
            found = there.get(topic.name, partitions)
            if found != partitions:
                raise SettingsError(
                    f"Topic {topic.name} has {found} partitions, but SWITCHBOARD_PARTITIONS is {partitions}; "
                    f"set it to {found}: the number cannot change once there are channels."
                )
        said = []
        missing = [topic for topic in TOPICS if topic.name not in there]
        made = (
            await admin.create_topics(
                [NewTopic(topic.name, partitions, replicas, topic_configs=topic.settings | extra) for topic in missing]
            )
            if missing
            else None
        )
        for name, code, message in made.topic_errors if made else ():
            error = for_code(code)
            if code and error is not TopicAlreadyExistsError:
                raise SettingsError(f"Topic {name} cannot be made: {message or error.__name__}.")
            said.append(f"made {name}")
        for topic in TOPICS:
            if topic.name in there:
                settings = topic.settings | extra
                await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic.name, settings)])
                said.append(f"checked {topic.name}")
        return said
    finally:
        await admin.close()

"""Creates the missing topics and aligns the settings of the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code

from contracts.kafka.partition_growth import read_partitions
from contracts.partition_growth import Partitions
from contracts.topics import GROWING, TOPICS, Topic
from services.infrastructure.config import SettingsError

_REPLICATED = {"min.insync.replicas": "2"}
_SET_ON_TOPIC = 1
"""Where a setting comes from, by Kafka's number."""


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


async def apply_topics(
    bootstrap_servers: str,
    partitions: int,
    security: dict[str, Any],
    *,
    check: bool = False,
    topics: Sequence[Topic] = TOPICS,
    counts: Mapping[str, int] | None = None,
) -> list[str]:
    """Creates missing topics and aligns settings; with ``check`` it changes nothing. Returns a sentence per difference.

    ``partitions`` is the number at the beginning, before any growth; ``counts`` has other numbers, by topic. Topics get
    three replicas if there are three brokers. Raises `SettingsError` if a topic has another number of partitions: a
    channel is assigned to a partition by hash, so the number changes only as `switchboard topics grow` does it.
    """
    growth = await read_partitions(bootstrap_servers=bootstrap_servers, **security)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, **security)
    await admin.start()
    try:
        brokers = len((await admin.describe_cluster())["brokers"])
        replicas = 3 if brokers >= 3 else 1
        extra = _REPLICATED if replicas == 3 else {}
        existing = {topic["topic"]: topic["partitions"] for topic in await admin.describe_topics() if topic["topic"]}
        counts = _partition_counts(growth, partitions) | dict(counts or {})
        for topic in topics:
            found = len(existing.get(topic.name, range(counts[topic.name])))
            if found != counts[topic.name] and not _is_growing(growth, topic.name, found):
                first = growth.growths[0].before if growth.growths else found
                raise SettingsError(
                    f"Topic {topic.name} has {found} partitions, but SWITCHBOARD_PARTITIONS is {partitions}; set it to "
                    f"{first}: the number grows only with `switchboard topics grow`."
                )
        missing = [topic for topic in topics if topic.name not in existing]
        if missing and not check:
            await _create(admin, missing, counts, replicas, extra)
        differences = [f"Topic {topic.name} does not exist." for topic in missing]
        for topic in topics:
            fewest = min((len(one["replicas"]) for one in existing.get(topic.name, ())), default=replicas)
            if fewest < replicas:
                differences.append(
                    f"Topic {topic.name} has {fewest} replicas, not {replicas}; kafka-reassign-partitions.sh adds them."
                )
        return differences + await _align(
            admin, [topic for topic in topics if topic.name in existing], extra, check=check
        )
    finally:
        await admin.close()


def _partition_counts(growth: Partitions, partitions: int) -> dict[str, int]:
    grown = growth.count(partitions)
    return {topic.name: grown if topic in GROWING else partitions for topic in TOPICS}


def _is_growing(growth: Partitions, name: str, found: int) -> bool:
    """Whether an interrupted growth has added the topic's partitions already."""
    grows = any(topic.name == name for topic in GROWING)
    return grows and growth.unfinished is not None and growth.unfinished.to == found


async def _create(
    admin: AIOKafkaAdminClient, missing: list[Topic], counts: Mapping[str, int], replicas: int, extra: dict[str, str]
) -> None:
    created = await admin.create_topics(
        [NewTopic(topic.name, counts[topic.name], replicas, topic_configs=topic.settings | extra) for topic in missing]
    )
    for name, code, message in created.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            raise SettingsError(f"Topic {name} cannot be created: {message or error.__name__}.")


async def _align(admin: AIOKafkaAdminClient, there: list[Topic], extra: dict[str, str], *, check: bool) -> list[str]:
    """Gives the topics exactly their settings, where they differ."""
    differences, wrong = [], []
    described = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic.name) for topic in there])
    found = {
        name: {entry[0]: entry[1] for entry in entries if entry[3] == _SET_ON_TOPIC}
        for answer in described
        for _, _, _, name, entries in answer.resources
    }
    for topic in there:
        wanted, has = topic.settings | extra, found[topic.name]
        for setting in sorted({*wanted, *has}):
            if wanted.get(setting) != has.get(setting):
                now, then = has.get(setting, "not set"), wanted.get(setting, "not set")
                differences.append(f"Topic {topic.name}: {setting} is {now}, it should be {then}.")
                wrong.append(topic)
    if wrong and not check:
        await admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, topic.name, topic.settings | extra) for topic in wrong]
        )
    return differences

"""Commands that are too large harm no others."""

from __future__ import annotations

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from contracts import topics
from contracts.channel import EditChannel
from contracts.kafka.publisher import Publisher, PublisherError
from contracts.sms import ToggleSms
from tests.faults.decider.testbed import Testbed


async def _largest_command(testbed: Testbed, size: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=testbed.kafka.bootstrap_servers)
    await admin.start()
    settings = topics.COMMANDS.settings | {"max.message.bytes": size}
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topics.COMMANDS.name, settings)])
    await admin.close()


async def _until_refused(publisher: Publisher, channel: str, size: int) -> None:
    """A broker takes some more before it knows of a new limit."""

    async def send_for_ever() -> None:
        while True:
            await publisher.send_raw("ToggleSms", {"enabled": "x" * size}, channel=channel)

    with pytest.raises(PublisherError, match="larger than the broker takes; nothing was published"):
        await send_for_ever()


@pytest.mark.parametrize("limit", [topics.COMMANDS.settings["max.message.bytes"], "20000"])
async def test_a_command_that_is_too_large_does_not_affect_others(
    testbed: Testbed, publisher: Publisher, channel: str, limit: str
) -> None:
    """Refused by this client or by the broker: either way the partition's next commands get their outcomes."""
    size = 3_000_000 if limit == topics.COMMANDS.settings["max.message.bytes"] else 30_000
    await _largest_command(testbed, limit)
    try:
        for enabled in (True, False):
            await _until_refused(publisher, channel, size)
            assert (await publisher.send(ToggleSms(enabled=enabled), channel=channel, timeout=10)).accepted
    finally:
        await _largest_command(testbed, topics.COMMANDS.settings["max.message.bytes"])


async def test_publish_many_stops_at_a_command_that_is_too_large(publisher: Publisher, channel: str) -> None:
    """Commands before it are published, those after it are not, and the publisher stays usable."""
    oversized = EditChannel.model_construct({"name"}, name="x" * 3_000_000)
    names = [EditChannel(name="before"), oversized, EditChannel(name="after")]
    with pytest.raises(PublisherError, match="larger"):
        await publisher.publish_many([(channel, name) for name in names])
    outcome = await publisher.send(EditChannel(name="last"), channel=channel)
    assert outcome.version == 3

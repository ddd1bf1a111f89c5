"""Records larger than any command can be: they hold up nobody, and are kept as they came."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import MessageSizeTooLargeError

from contracts.partitioner import partition_of
from contracts.sms import ToggleSms
from contracts.topics import LARGEST_RECORD_BYTES
from tests.installation import Installation, fresh
from tests.servers import PARTITIONS


async def _dead_letter(installation: Installation, partition: int, offset: int) -> tuple[Any, dict[str, bytes]]:
    async with AIOKafkaConsumer(
        bootstrap_servers=installation.bootstrap_servers,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        fetch_max_bytes=64 * 1024 * 1024,
        max_partition_fetch_bytes=64 * 1024 * 1024,
    ) as consumer:
        consumer.assign([TopicPartition("switchboard.dead-letters", partition)])
        async for letter in consumer:
            headers = dict(letter.headers)
            if headers.get("offset") == str(offset).encode():
                return letter, headers
    raise AssertionError


def _producer(installation: Installation) -> AIOKafkaProducer:
    return AIOKafkaProducer(
        bootstrap_servers=installation.bootstrap_servers,
        compression_type="gzip",
        max_request_size=64 * 1024 * 1024,
        max_batch_size=64 * 1024 * 1024,
    )


@pytest.mark.parametrize("size", [1_800_000, 2_096_000, LARGEST_RECORD_BYTES - 120], ids=["1.8 MB", "2 MiB", "most"])
@pytest.mark.parametrize("where", ["at home", "misrouted"])
async def test_it_holds_up_nobody(installation: Installation, size: int, where: str) -> None:
    channel = fresh("oversized")
    home = partition_of(channel, PARTITIONS)
    partition = home if where == "at home" else (home + 1) % PARTITIONS
    command = {"id": fresh("c"), "type": "ToggleSms", "source": "s", "subject": channel, "accountid": "acme"}
    value = json.dumps(command | {"data": {"enabled": True}}).encode()
    # At home a large record is no command because it is no JSON; elsewhere it is a command with much white space.
    value = b"x" * size if where == "at home" else value + b" " * (size - len(value))
    async with _producer(installation) as producer:
        sent = await producer.send_and_wait("switchboard.commands", value, key=channel.encode(), partition=partition)

    async with installation.publisher("acme") as publisher:
        outcome = await publisher.send(ToggleSms(enabled=True), channel=channel)
        assert outcome.body.version == 0

    if where == "at home" or size > LARGEST_RECORD_BYTES - 1024:
        letter, headers = await _dead_letter(installation, partition, sent.offset)
        assert (letter.key, letter.value) == (channel.encode(), value)
        assert "omitted" not in headers


async def test_compression_lets_in_nothing_larger(installation: Installation) -> None:
    """Otherwise a few kilobytes could unfold in the memory of whoever reads them."""
    async with _producer(installation) as producer:
        with pytest.raises(MessageSizeTooLargeError):
            await producer.send_and_wait("switchboard.commands", b"x" * 3_000_000, key=b"bomb")

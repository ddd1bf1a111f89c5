"""Records larger than any command can be, also such as only compression lets in: they hold up nobody."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from contracts.partitioner import partition_of
from contracts.sms import ToggleSms
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
            if headers["offset"] == str(offset).encode():
                return letter, headers
    raise AssertionError


@pytest.mark.parametrize(
    ("size", "kept"),
    [(1_800_000, True), (2_090_000, False), (30_000_000, False)],
    ids=["large", "at the limit", "huge"],
)
@pytest.mark.parametrize("where", ["at home", "misrouted"])
async def test_it_holds_up_nobody(installation: Installation, size: int, kept: bool, where: str) -> None:  # noqa: FBT001
    channel = fresh("oversized")
    home = partition_of(channel, PARTITIONS)
    partition = home if where == "at home" else (home + 1) % PARTITIONS
    command = {"id": fresh("c"), "type": "ToggleSms", "source": "s", "subject": channel, "accountid": "acme"}
    value = json.dumps(command | {"data": {"enabled": True}}).encode()
    # At home a large record is no command because it is no JSON; elsewhere it is a command with much white space.
    value = b"x" * size if where == "at home" else value + b" " * (size - len(value))
    async with AIOKafkaProducer(
        bootstrap_servers=installation.bootstrap_servers,
        compression_type="gzip",
        max_request_size=64 * 1024 * 1024,
        max_batch_size=64 * 1024 * 1024,
    ) as producer:
        sent = await producer.send_and_wait("switchboard.commands", value, key=channel.encode(), partition=partition)

    async with installation.publisher("acme") as publisher:
        outcome = await publisher.send(ToggleSms(enabled=True), channel=channel)
        assert outcome.body.version == 0

    if where == "at home" or not kept:
        letter, headers = await _dead_letter(installation, partition, sent.offset)
        assert letter.key == channel.encode()
        if kept:
            assert letter.value == value
        else:
            assert letter.value is None
            assert headers["omitted"] == str(size).encode()

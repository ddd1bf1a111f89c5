"""A client in another library, with another default partitioner, can publish commands and read what came of them."""

from __future__ import annotations

import json
import time
from typing import Any

import aiohttp
import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Consumer, Producer, TopicPartition

from contracts.partitioner import partition_of
from tests.installation import Installation, fresh
from tests.servers import PARTITIONS


def _command(kind: str, channel: str, **data: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": fresh("cmd"),
        "type": kind,
        "source": "foreign",
        "subject": channel,
        "accountid": "acme",
        "data": data,
    }


def _read(consumer: Consumer, channel: str, count: int) -> list[dict[str, Any]]:
    """The first ``count`` records about the channel, of whichever topic is subscribed."""
    found: list[dict[str, Any]] = []
    deadline = time.monotonic() + 30
    while len(found) < count and time.monotonic() < deadline:
        message = consumer.poll(0.5)
        if message is not None and message.error() is None and message.key() == channel.encode():
            found.append(json.loads(message.value() or b""))
    return found


def _timestamp(installation: Installation, channel: str) -> tuple[int, int]:
    """Kind and time of the first record about the channel on the commands topic."""
    consumer = Consumer({"bootstrap.servers": installation.bootstrap_servers, "group.id": fresh("times")})
    consumer.assign([TopicPartition("switchboard.commands", partition_of(channel, PARTITIONS), 0)])
    try:
        while (message := consumer.poll(10)) is not None:
            if channel.encode() in (message.value() or b""):
                kind, at = message.timestamp()
                return int(kind), int(at)
    finally:
        consumer.close()
    raise AssertionError("the record is not there")


def _misplaced() -> str:
    """A channel that librdkafka's default partitioner (CRC32) puts on another partition than Kafka's own does."""
    from zlib import crc32

    while True:
        channel = fresh("foreign")
        if crc32(channel.encode()) % PARTITIONS != partition_of(channel, PARTITIONS):
            return channel


async def test_settings_change_by_a_foreign_client(installation: Installation) -> None:
    channel = _misplaced()
    producer = Producer({"bootstrap.servers": installation.bootstrap_servers})
    sent = [
        _command("RegisterChannel", channel, channel_type="whatsapp", name="Shop", enterprise_authenticated=True),
        _command("ToggleSms", channel, enabled=True),
    ]
    for command in sent:
        producer.produce("switchboard.commands", key=channel, value=json.dumps(command))
        producer.flush(10)

    options = {
        "bootstrap.servers": installation.bootstrap_servers,
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
    }
    answers = Consumer(options | {"group.id": fresh("answers")})
    answers.subscribe(["switchboard.outcomes"])
    outcomes = _read(answers, channel, 2)
    answers.close()
    events = Consumer(options | {"group.id": fresh("events")})
    events.subscribe(["switchboard.events"])
    happened = _read(events, channel, 2)
    events.close()

    assert [(one["type"], one["causationid"]) for one in outcomes] == [
        ("CommandAccepted", command["id"]) for command in sent
    ]
    assert [(one["type"], one["sequence"], one["causationid"]) for one in happened] == [
        ("ChannelRegistered", 1, sent[0]["id"]),
        ("SmsActivated", 2, sent[1]["id"]),
    ]
    headers = {"Authorization": f"Bearer {installation.api_key('acme')}"}
    url = f"{installation.address}/v1/channels/{channel}/settings?min_version=2"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
        settings = await response.json()
    assert settings["sms"] == {"enabled": True}
    assert settings["version"] == 2


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
async def test_a_client_may_compress_as_it_likes(installation: Installation, codec: str) -> None:
    """Kafka's codecs are the publisher's choice; one that a reader of ours lacked would stop its partition for ever."""
    channel = fresh("compressed")
    command = _command("ToggleSms", channel, enabled=True)
    settings = {"bootstrap.servers": installation.bootstrap_servers, "compression.type": codec}
    producer = Producer(settings | {"linger.ms": 50})
    for number in range(20):  # a batch of one is sent as it is, compressed or not
        value = json.dumps(command | {"id": f"{command['id']}-{number}"})
        producer.produce("switchboard.commands", value=value, partition=partition_of(channel, PARTITIONS), timestamp=1)
    assert producer.flush(10) == 0

    async with installation.publisher("acme") as publisher:
        outcome = await publisher.send_raw("ToggleSms", {"enabled": True}, channel=channel)
    assert outcome.body.version == 0
    kind, at = _timestamp(installation, channel)
    assert (kind, at > 1_700_000_000_000) == (TIMESTAMP_LOG_APPEND_TIME, True)


class _NoText(str):
    """A header's name that is not UTF-8; no client that we know would send it."""

    def encode(self, *_: str) -> bytes:
        return b"\xff\xfe"


async def _published_with_a_name_that_is_no_text(servers: str, topic: str, partition: int, value: bytes) -> None:
    batch = _DefaultRecordBatchBuilderPy(2, 0, 0, -1, -1, -1, 1_000_000)
    for offset, headers in enumerate(([(_NoText(), b"x")], [], [(_NoText(), b"x")])):
        batch.append(offset, timestamp=time.time_ns() // 1_000_000, key=None, value=value, headers=headers)
    client = AIOKafkaClient(bootstrap_servers=servers)
    try:
        await client.bootstrap()
        await client._wait_on_metadata(topic)
        leader = client.cluster.leader_for_partition(TopicPartition(topic, partition))
        request = ProduceRequest(
            transactional_id=None,
            required_acks=-1,
            timeout=10_000,
            topics=[(topic, [(partition, bytes(batch.build()))])],
        )
        answer = await client.send(leader, request)
        assert answer.topics[0][1][0][1] == 0, answer
    finally:
        await client.close()


@pytest.mark.parametrize(
    ("topic", "kind", "data", "answers", "answer"),
    [
        ("switchboard.commands", "ToggleSms", {"enabled": True}, "switchboard.outcomes", "CommandRejected"),
        (
            "switchboard.invocation-requests",
            "InvokeIntent",
            {"system": "crm", "code": "ORDER"},
            "switchboard.invocations",
            "InvocationFailed",
        ),
    ],
)
async def test_a_header_whose_name_is_no_text_stops_nobody(
    installation: Installation, topic: str, kind: str, data: dict[str, Any], answers: str, answer: str
) -> None:
    """On another partition than the channel's, so that a command is also forwarded with its headers."""
    channel = fresh("headers")
    away = (partition_of(channel, PARTITIONS) + 1) % PARTITIONS
    value = json.dumps(_command(kind, channel, **data)).encode()
    await _published_with_a_name_that_is_no_text(installation.bootstrap_servers, topic, away, value)

    consumer = Consumer(
        {
            "bootstrap.servers": installation.bootstrap_servers,
            "auto.offset.reset": "earliest",
            "group.id": fresh("headers"),
        }
    )
    consumer.subscribe([answers])
    found = _read(consumer, channel, 1)
    consumer.close()
    assert [one["type"] for one in found] == [answer]

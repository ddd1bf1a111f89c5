"""Writes a log of events by hand: with gaps, faults, or partitions that grew."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from contracts import topics
from contracts.partition_growth import PartitionGrowth
from services.infrastructure.embedded.kafka import EmbeddedKafka
from services.infrastructure.topics import apply_topics

EVENTS = topics.EVENTS.name


class Writer:
    """Writes whatever it is told as the events of a log, numbered as they should be if not told."""

    def __init__(self, producer: Any, servers: str) -> None:
        self.producer, self.servers = producer, servers
        self.counts, self.sequences = Counter[int](), Counter[str]()

    async def write(self, channel: str, partition: int = 0, **told: Any) -> None:
        self.counts[partition] += 1
        self.sequences[channel] += 1
        event = {
            "specversion": "1.0",
            "id": f"event-{partition}-{self.counts[partition]}",
            "type": "SmsActivated",
            "source": "switchboard",
            "subject": channel,
            "time": "2026-11-22T08:00:00.000Z",
            "accountid": "acme",
            "sequence": self.sequences[channel],
            "partitionsequence": self.counts[partition],
            "previoushash": "0" * 64,
            "resource": "sms",
            "causationid": f"command-{partition}-{self.counts[partition]}",
            "correlationid": f"command-{partition}-{self.counts[partition]}",
            "data": {},
        }
        value = json.dumps(event | told).encode()
        await self.producer.send_and_wait(EVENTS, value, key=channel.encode(), partition=partition)

    async def grow(self, to: int, *, finished: bool = True) -> None:
        """From one partition, as `switchboard topics grow` does, at the present end."""
        cuts = {EVENTS: (self.counts[0],)} if finished else {}
        growth = PartitionGrowth(before=1, to=to, state="finished" if finished else "begun", cuts=cuts)
        value = growth.model_dump_json().encode()
        await self.producer.send_and_wait(topics.PARTITION_GROWTH.name, value, key=growth.key, partition=0)
        if len(await self.producer.partitions_for(EVENTS)) < to:
            await create_partitions(self.servers, to)
            while len(await self.producer.partitions_for(EVENTS)) < to:
                await self.producer.client.force_metadata_update()


@asynccontextmanager
async def writer(kafka: EmbeddedKafka, **options: Any) -> AsyncIterator[Writer]:
    """On a log without events."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await admin.start()
    names = {EVENTS, topics.PARTITION_GROWTH.name}
    if there := names & set(await admin.list_topics()):
        await admin.delete_topics([*there])
    while names & set(await admin.list_topics()):  # noqa: ASYNC110 -- nobody tells
        await asyncio.sleep(0.05)
    await admin.close()
    await apply_topics(kafka.bootstrap_servers, 1, {})
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, acks="all", **options) as producer:
        yield Writer(producer, kafka.bootstrap_servers)


async def create_partitions(servers: str, count: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        await admin.create_partitions({EVENTS: NewPartitions(count)})
        while len((await admin.describe_topics([EVENTS]))[0]["partitions"]) < count:  # noqa: ASYNC110 -- nobody tells
            await asyncio.sleep(0.05)
    finally:
        await admin.close()

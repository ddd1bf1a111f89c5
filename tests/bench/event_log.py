"""Events as the decider writes them, put onto a topic within one transaction: all become visible at once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from pydantic_core import to_json

from contracts.envelope import CONTENT_TYPE, GENESIS
from contracts.ids import new_id
from contracts.message import rfc3339
from contracts.partitioner import partition_of
from tests.bench.load_driver import ACCOUNT, SYSTEM, channel_name

_COUNTRIES = ("ID", "IN", "BR", "MX", "EG", "MY")

Made = tuple[int, str, bytes]
"""Partition, channel, value."""


class EventLog:
    """A topic that nobody else writes; knows the next number of every channel and partition. The chain is not kept."""

    def __init__(self, bootstrap_servers: str, topic: str, partitions: int) -> None:
        self.bootstrap_servers, self.topic, self.partitions = bootstrap_servers, topic, partitions
        self._sequences: Counter[str] = Counter()
        self._partition_sequences: Counter[int] = Counter()

    def event(self, kind: str, channel: str, resource: str, data: dict[str, Any]) -> Made:
        partition, command = partition_of(channel, self.partitions), new_id()
        self._sequences[channel] += 1
        self._partition_sequences[partition] += 1
        envelope: dict[str, Any] = {
            "specversion": "1.0",
            "id": new_id(),
            "type": kind,
            "source": "switchboard",
            "subject": channel,
            "time": rfc3339(time.time_ns() // 1_000_000),
            "accountid": ACCOUNT,
            "actor": "bench@example.com",
            "commandsource": "bench",
            "commandtype": kind,
            "datacontenttype": "application/json",
            "data": data,
            "sequence": self._sequences[channel],
            "partitionsequence": self._partition_sequences[partition],
            "previoushash": GENESIS,
            "resource": resource,
            "causationid": command,
            "correlationid": command,
        }
        return partition, channel, to_json(envelope)

    def registrations(self, channels: Iterable[int]) -> Iterator[Made]:
        """Two events a channel: it is registered, and has one business system then."""
        for name in map(channel_name, channels):
            form = {"channel_type": "whatsapp", "name": name, "enterprise_authenticated": True}
            yield self.event("ChannelRegistered", name, "channel", form)
            system = {"system": SYSTEM, "name": "CRM", "api_request_url": "https://crm.example/hook", "remarks": "-"}
            yield self.event("BusinessSystemOpened", name, f"business-systems/{SYSTEM}", system)

    def changes(self, channels: Sequence[int], turn: int) -> Iterator[Made]:
        """One event for each channel, of three kinds."""
        for number in channels:
            name = channel_name(number)
            match number % 3:
                case 0:
                    yield self.event("SmsDeactivated" if turn % 2 else "SmsActivated", name, "sms", {})
                case 1:
                    countries = [_COUNTRIES[turn % len(_COUNTRIES)], "SA"]
                    form = {"enabled": True, "countries": countries, "use_own_numbers": False}
                    yield self.event("OtpSchedulingSaved", name, "otp-scheduling", form)
                case _:
                    yield self.event("ChannelEdited", name, "channel", {"name": f"Shop {number}, turn {turn}"})

    async def append(self, events: Iterable[Made]) -> float:
        """Returns when they are there, and says when they became visible, by `time.perf_counter`."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self.bootstrap_servers,
            transactional_id=new_id(),
            transaction_timeout_ms=600_000,
            max_batch_size=900_000,
        )
        reader = AIOKafkaConsumer(bootstrap_servers=self.bootstrap_servers, isolation_level="read_committed")
        await producer.start()
        await reader.start()
        try:
            before = await self._end(reader)
            await producer.begin_transaction()
            count, partitions = await self._write(producer, events)
            started = time.perf_counter()
            await producer.commit_transaction()
            # The broker answers before the last partition has its marker, behind which all is visible.
            while await self._end(reader) < before + count + partitions:  # noqa: ASYNC110 -- nobody tells
                await asyncio.sleep(0.002)
            return started
        finally:
            await reader.stop()
            await producer.stop()

    async def _end(self, reader: Any) -> int:
        everywhere = [TopicPartition(self.topic, number) for number in range(self.partitions)]
        return sum((await reader.end_offsets(everywhere)).values())

    async def _write(self, producer: Any, events: Iterable[Made]) -> tuple[int, int]:
        """How many events, on how many partitions."""
        batches: dict[int, Any] = {}
        count = 0
        for partition, channel, value in events:
            fields = {"key": channel.encode(), "value": value, "timestamp": None, "headers": [CONTENT_TYPE]}
            batch = batches.setdefault(partition, producer.create_batch())
            if batch.append(**fields) is None:
                await (await producer.send_batch(batch, self.topic, partition=partition))
                batches[partition] = producer.create_batch()
                batches[partition].append(**fields)
            count += 1
        for partition, batch in batches.items():
            await (await producer.send_batch(batch, self.topic, partition=partition))
        return count, len(batches)

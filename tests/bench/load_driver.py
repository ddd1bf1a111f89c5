"""Sends the commands to measure with, so that they become visible all at once, or one after the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from pydantic_core import to_json

from contracts.envelope import CONTENT_TYPE
from contracts.ids import new_id
from contracts.message import rfc3339
from contracts.partitioner import partition_of
from services.infrastructure.transactions import TRANSACTION_TIMEOUT_MS

ACCOUNT = "bench"
SYSTEM = "crm"
_COUNTRIES = ("ID", "IN", "BR", "MX", "EG", "MY")


@dataclass(frozen=True, slots=True)
class TopicPair:
    """The topics from which a contestant reads commands and to which it writes outcomes."""

    commands: str
    outcomes: str


def channel_name(number: int) -> str:
    return f"bench-{number}"


def command(kind: str, channel: str, data: dict[str, Any], account: str = ACCOUNT) -> tuple[str, bytes]:
    """(channel, value) of a command as a publisher would write it."""
    envelope = {
        "specversion": "1.0",
        "id": new_id(),
        "type": kind,
        "source": "bench",
        "subject": channel,
        "time": rfc3339(time.time_ns() // 1_000_000),
        "accountid": account,
        "actor": "bench@example.com",
        "datacontenttype": "application/json",
        "data": data,
    }
    return channel, to_json(envelope)


def registrations(channels: Iterable[int], account: str = ACCOUNT) -> Iterator[tuple[str, bytes]]:
    """Two commands per channel: registration, and one business system."""
    for number in channels:
        name = channel_name(number)
        form = {"channel_type": "whatsapp", "name": f"Shop {number}", "enterprise_authenticated": True}
        yield command("RegisterChannel", name, form, account)
        yield command(
            "OpenBusinessSystem",
            name,
            {"system": SYSTEM, "name": "CRM", "api_request_url": "https://crm.example/hook", "remarks": "opened"},
            account,
        )


def changes(channels: Sequence[int], turn: int) -> Iterator[tuple[str, bytes]]:
    """One accepted command of one event for each channel, of three kinds; each turn differs from the one before."""
    for number in channels:
        name = channel_name(number)
        match number % 3:
            case 0:
                yield command("ToggleSms", name, {"enabled": turn % 2 == 0})
            case 1:
                country = _COUNTRIES[turn % len(_COUNTRIES)]
                yield command(
                    "SaveOtpScheduling", name, {"enabled": True, "countries": [country, "SA"], "use_own_numbers": False}
                )
            case _:
                yield command("EditChannel", name, {"name": f"Shop {number}, turn {turn}"})


class LoadDriver:
    """Publishes commands, and measures by the committed ends of the outcomes how far a contestant is."""

    def __init__(self, bootstrap_servers: str, partitions: int) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.partitions = partitions
        alone = "," not in bootstrap_servers
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap_servers,
            transactional_id=f"bench-{uuid4()}",
            transaction_timeout_ms=600_000 if alone else TRANSACTION_TIMEOUT_MS,  # the most that our cluster takes
            max_batch_size=900_000,
        )
        self._reader = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, isolation_level="read_committed")

    async def start(self) -> None:
        await self._producer.start()
        await self._reader.start()

    async def stop(self) -> None:
        await self._reader.stop()
        await self._producer.stop()

    async def seconds_to_process(
        self, topic_pair: TopicPair, commands: Iterable[tuple[str, bytes]], poll_interval_s: float = 0.003
    ) -> float:
        """Seconds from when all commands become visible at once until the outcome of the last one is visible.

        One transaction writes all commands, so that readers of committed records see them at once. Each poll costs the
        broker a little, so a long run polls less often.
        """
        await self._producer.begin_transaction()
        count = await self._write(topic_pair.commands, commands)
        before = await self._end(topic_pair.outcomes)
        started = time.perf_counter()
        await self._producer.commit_transaction()
        return await self._until_quiet(topic_pair.outcomes, before + count, poll_interval_s) - started

    async def write_all(self, topic: str, commands: Iterable[tuple[str, bytes]]) -> None:
        """Publishes in one transaction, and waits for nothing."""
        await self._producer.begin_transaction()
        await self._write(topic, commands)
        await self._producer.commit_transaction()

    async def _write(self, topic: str, commands: Iterable[tuple[str, bytes]]) -> int:
        count, now = 0, time.time_ns() // 1_000_000
        batches: dict[int, Any] = {}
        for channel, value in commands:
            partition = partition_of(channel, self.partitions)
            fields = {"key": channel.encode(), "value": value, "timestamp": now, "headers": [CONTENT_TYPE]}
            batch = batches.setdefault(partition, self._producer.create_batch())
            if batch.append(**fields) is None:
                await (await self._producer.send_batch(batch, topic, partition=partition))
                batches[partition] = self._producer.create_batch()
                batches[partition].append(**fields)
            count += 1
        for partition, batch in batches.items():
            await (await self._producer.send_batch(batch, topic, partition=partition))
        return count

    async def _end(self, topic: str) -> int:
        partitions = [TopicPartition(topic, partition) for partition in range(self.partitions)]
        return sum((await self._reader.end_offsets(partitions)).values())

    async def _until_quiet(self, topic: str, enough: int, poll_interval_s: float, quiet_s: float = 0.25) -> float:
        """When the topic's committed ends moved last, once they are past ``enough`` and stand still.

        Transactions leave markers behind, so that ends alone do not say exactly how many records there are.
        """
        end, moved = await self._end(topic), time.perf_counter()
        while end < enough or time.perf_counter() - moved < quiet_s:
            await asyncio.sleep(poll_interval_s)
            now = await self._end(topic)
            if now != end:
                end, moved = now, time.perf_counter()
            elif time.perf_counter() - moved > 60:
                raise TimeoutError(f"{topic} stands still at {end}, of {enough}")
        return moved

    async def closed_loop(
        self, topic_pair: TopicPair, commands: Sequence[tuple[str, bytes]], in_flight: int, pause_s: float = 0.0
    ) -> list[float]:
        """Keeps ``in_flight`` commands in flight; seconds from publish to outcome of each.

        Waits ``pause_s`` before each command.
        """
        slots = asyncio.Semaphore(in_flight)
        latencies: list[float] = []
        sent: dict[bytes, list[float]] = {}
        everywhere = [TopicPartition(topic_pair.outcomes, partition) for partition in range(self.partitions)]
        async with (
            _plain_producer(self.bootstrap_servers) as producer,
            _plain_consumer(self.bootstrap_servers) as consumer,
        ):
            consumer.assign(everywhere)
            for partition, end in (await consumer.end_offsets(everywhere)).items():
                consumer.seek(partition, end)

            async def listen() -> None:
                while len(latencies) < len(commands):
                    for records in (await consumer.getmany(timeout_ms=1_000)).values():
                        now = time.perf_counter()
                        for record in records:
                            if (waiting := sent.get(record.key)) is not None and waiting:
                                latencies.append(now - waiting.pop(0))
                                slots.release()

            listening = asyncio.create_task(listen())
            for channel, value in commands:
                await slots.acquire()
                if pause_s:
                    await asyncio.sleep(pause_s)
                sent.setdefault(channel.encode(), []).append(time.perf_counter())
                await producer.send(
                    topic_pair.commands,
                    value,
                    key=channel.encode(),
                    partition=partition_of(channel, self.partitions),
                    headers=[CONTENT_TYPE],
                )
            async with asyncio.timeout(60):
                await listening
        return latencies


@asynccontextmanager
async def _plain_producer(bootstrap_servers: str) -> Any:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, enable_idempotence=True)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


@asynccontextmanager
async def _plain_consumer(bootstrap_servers: str) -> Any:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers, isolation_level="read_committed", auto_offset_reset="latest"
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


@asynccontextmanager
async def load_driver(bootstrap_servers: str, partitions: int) -> Any:
    running = LoadDriver(bootstrap_servers, partitions)
    await running.start()
    try:
        yield running
    finally:
        await running.stop()

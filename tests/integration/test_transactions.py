"""What `services.infrastructure.transactions` promises, on a real broker: it relies on aiokafka's internals."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import MessageSizeTooLargeError, ProducerFenced
from aiokafka.producer.sender import Sender

from services.infrastructure import transactions
from services.infrastructure.embedded.kafka import EmbeddedKafka
from services.infrastructure.library_internals import aiokafka_transactions as internals
from services.infrastructure.library_internals.aiokafka_transactions import CommitInDoubt
from services.infrastructure.transactions import OutgoingRecord, TransactionalProducer
from tests.faults.decider.commit_proxy import CommitProxy
from tests.installation import fresh

Start = Callable[..., Awaitable[TransactionalProducer]]
NOW = time.time_ns() // 1_000_000
"""A record of long ago would be deleted by the topic's retention before it is read."""


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts producers, and lets go of them afterwards."""
    async with AsyncExitStack() as stack:

        async def start(servers: str, transactional_id: str) -> TransactionalProducer:
            producer = TransactionalProducer(servers, transactional_id, {})
            stack.push_async_callback(producer.discard)
            await producer.start()
            return producer

        yield start


@pytest.fixture
async def topic(own_kafka: EmbeddedKafka) -> str:
    """Two partitions that take records of up to 1,000 bytes."""
    name = fresh("topic")
    admin = AIOKafkaAdminClient(bootstrap_servers=own_kafka.bootstrap_servers)
    await admin.start()
    await admin.create_topics([NewTopic(name, 2, 1, topic_configs={"max.message.bytes": "1000"})])
    await admin.close()
    return name


async def _committed(servers: str, topic: str) -> list[bytes]:
    """The values of partition 0 that a reader of committed records sees."""
    async with AIOKafkaConsumer(
        bootstrap_servers=servers, isolation_level="read_committed", auto_offset_reset="earliest"
    ) as consumer:
        source = TopicPartition(topic, 0)
        consumer.assign([source])
        end = (await consumer.end_offsets([source]))[source]
        found: list[bytes] = []
        while await consumer.position(source) < end:
            found += [one.value for one in (await consumer.getmany(timeout_ms=200)).get(source, [])]
    return found


def _records(topic: str, *values: bytes, partition: int = 0) -> list[OutgoingRecord]:
    return [OutgoingRecord(topic, partition, b"key", value) for value in values]


async def test_committed_and_aborted(own_kafka: EmbeddedKafka, topic: str, start: Start) -> None:
    producer = await start(own_kafka.bootstrap_servers, fresh("id"))

    await producer.begin()
    offsets = await producer.append([*_records(topic, b"1", b"2"), *_records(topic, b"x", partition=1)], NOW)
    await producer.commit()
    await producer.begin()
    await producer.append(_records(topic, b"3"), NOW)
    await producer.abort()

    assert offsets == {TopicPartition(topic, 0): 0, TopicPartition(topic, 1): 0}
    assert await _committed(own_kafka.bootstrap_servers, topic) == [b"1", b"2"]


async def test_starting_fences_whoever_had_the_id(own_kafka: EmbeddedKafka, topic: str, start: Start) -> None:
    name = fresh("id")
    first = await start(own_kafka.bootstrap_servers, name)
    await first.begin()
    await first.append(_records(topic, b"first"), NOW)

    second = await start(own_kafka.bootstrap_servers, name)
    with pytest.raises(ProducerFenced):
        await first.commit()
    await second.begin()
    await second.append(_records(topic, b"second"), NOW)
    await second.commit()

    assert await _committed(own_kafka.bootstrap_servers, topic) == [b"second"]


async def test_a_send_that_fails_is_raised(own_kafka: EmbeddedKafka, topic: str, start: Start) -> None:
    """aiokafka itself would commit a transaction over it, had nobody awaited it."""
    producer = await start(own_kafka.bootstrap_servers, fresh("id"))

    await producer.begin()
    with pytest.raises(MessageSizeTooLargeError):
        await producer.append([*_records(topic, b"small"), *_records(topic, b"x" * 2_000, partition=1)], NOW)


@pytest.mark.parametrize(("sender", "commits"), [("ours", 1), ("aiokafka's own", 2)])
async def test_a_commit_is_asked_for_once(
    own_kafka: EmbeddedKafka, topic: str, start: Start, monkeypatch: pytest.MonkeyPatch, sender: str, commits: int
) -> None:
    """The answer to it is lost: ours is in doubt and says so, aiokafka's own asks again in the same epoch."""
    if sender != "ours":
        monkeypatch.setattr(internals, "_SenderEndingOnce", Sender)
    proxy = CommitProxy((own_kafka.port,), "unanswered", count=1, writes=0)
    await proxy.start()
    try:
        producer = await start(proxy.bootstrap_servers, fresh("switchboard.decider"))
        await producer.begin()
        await producer.append(_records(topic, b"1"), NOW)
        if sender == "ours":
            with pytest.raises(CommitInDoubt):
                await producer.commit()
        else:
            await producer.commit()
        await asyncio.sleep(1)
        assert proxy.commits == commits
    finally:
        await producer.discard()
        await proxy.stop()


async def test_a_doubled_commit_ends_nothing(own_kafka: EmbeddedKafka, topic: str, start: Start) -> None:
    """It arrives once the next transaction has written. In the same epoch, it would commit what is there so far."""
    proxy = CommitProxy((own_kafka.port,), "doubled", count=1, writes=1)
    await proxy.start()
    try:
        producer = await start(proxy.bootstrap_servers, "switchboard.decider-4711")
        for value in (b"1", b"2"):
            await producer.begin()
            await producer.append(_records(topic, value), NOW)
            await (producer.commit() if value == b"1" else producer.abort())
        assert proxy.delivered.is_set()
    finally:
        await producer.discard()
        await proxy.stop()

    assert await _committed(own_kafka.bootstrap_servers, topic) == [b"1"]


@pytest.mark.parametrize("partition", [0, 1], ids=["writing", "adding a partition"])
async def test_a_producer_is_let_go_of_though_the_broker_does_not_answer(
    own_kafka: EmbeddedKafka, topic: str, start: Start, monkeypatch: pytest.MonkeyPatch, partition: int
) -> None:
    """It once waited for news that a closed connection never brings, was left behind, and opened another connection."""
    monkeypatch.setattr(transactions, "REQUEST_TIMEOUT_MS", 500)
    others = asyncio.all_tasks()
    producer = await start(own_kafka.bootstrap_servers, fresh("id"))
    await producer.begin()
    await producer.append(_records(topic, b"1"), NOW)
    os.kill(own_kafka.pid, signal.SIGSTOP)
    try:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.2):
                await producer.append(_records(topic, b"2", partition=partition), NOW)
        await producer.discard()
    finally:
        os.kill(own_kafka.pid, signal.SIGCONT)
    await asyncio.sleep(0.2)

    assert asyncio.all_tasks() <= others
    assert not any(connection.connected() for connection in producer._producer.client._conns.values())


@pytest.mark.timeout(180)
async def test_a_consumer_stops_quietly_while_its_broker_is_away(own_kafka: EmbeddedKafka, topic: str) -> None:
    """aiokafka's own `stop` would raise a CancelledError that nobody meant, and end the task that lets go of it."""
    consumers = [AIOKafkaConsumer(bootstrap_servers=own_kafka.bootstrap_servers) for _ in range(5)]
    for consumer in consumers:
        await consumer.start()
        consumer.assign([TopicPartition(topic, 0)])
        await consumer.getmany(timeout_ms=100)
    await asyncio.to_thread(own_kafka.kill)
    await asyncio.sleep(1)
    stopped = await asyncio.gather(*(consumer.stop() for consumer in consumers), return_exceptions=True)
    await asyncio.to_thread(own_kafka.start)

    assert stopped == [None] * 5

"""Fencing: one transactional id per partition, and the abort with which a new owner starts."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from contracts import topics
from services.infrastructure.transactions import OutgoingRecord, TransactionalProducer

FENCE_KEY = b"~fence"
_RECORDS_PER_TRANSACTION = 2_000
WRITTEN_TOPICS = (
    topics.EVENTS,
    topics.OUTCOMES,
    topics.CHANNEL_STATE,
    topics.SIGNATURES,
    topics.DEAD_LETTERS,
)


def transactional_id(partition: int) -> str:
    """One per input partition, the same in every process: a producer that starts with it fences the earlier one."""
    return f"switchboard.decider-{partition}"


async def abort_leftovers(producer: TransactionalProducer, partition: int, partitions: int, now: int) -> None:
    """Aborts a transaction that touches every partition that an owner may write to.

    Otherwise, after the broker was killed and restarted, the next commit of the same producer id can commit records of
    an earlier transaction.
    """
    await producer.begin()
    await producer.append(fence_records(partition, partitions), now)
    await producer.abort()


def fence_records(partition: int, partitions: int) -> list[OutgoingRecord]:
    """A record for every partition of a topic that an owner may write to; only ever written to be aborted."""
    records = [OutgoingRecord(topic.name, partition, FENCE_KEY, b"") for topic in WRITTEN_TOPICS]
    return records + [OutgoingRecord(topics.COMMANDS.name, target, FENCE_KEY, b"") for target in range(partitions)]


@asynccontextmanager
async def fenced_producer(
    bootstrap_servers: str, security: dict[str, Any], partition: int, partitions: int
) -> AsyncIterator[TransactionalProducer]:
    """A producer with the partition's transactional id, which fences any decider that still runs. Raises KafkaError."""
    producer = TransactionalProducer(bootstrap_servers, transactional_id(partition), security)
    try:
        await producer.start()
        await abort_leftovers(producer, partition, partitions, _now())
        yield producer
    finally:
        await producer.discard()


async def append_in_parts(producer: TransactionalProducer, records: Sequence[OutgoingRecord]) -> None:
    """In transactions of a bounded size: after an interruption, a part of the records is there. Raises KafkaError."""
    for at in range(0, len(records), _RECORDS_PER_TRANSACTION):
        await producer.begin()
        await producer.append(records[at : at + _RECORDS_PER_TRANSACTION], _now())
        await producer.commit()


def _now() -> int:
    return time.time_ns() // 1_000_000

"""Restores a partition's state from the log: state records and signatures to their ends, and the tail of outcomes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from contracts import topics
from services.decider.encoding import data_of
from services.decider.memory import RememberedAnswer, memory_key
from services.decider.partition_state import CHECKPOINT_KEY, Checkpoint, PartitionState, Tail

_WAIT_MS = 20
"""Nothing more is written meanwhile, so there is nothing to wait for. Every topic ends in what the fence aborted, which
a reader does not see: by the defaults, each would cost one more second, and hold up the next by half a one."""


async def restore(bootstrap_servers: str, security: dict[str, Any], partition: int) -> PartitionState:
    """The partition's state as the log has it now. To be called after the fence, when nobody else writes."""
    state = PartitionState()
    async with log_reader(bootstrap_servers, security) as consumer:
        for topic, table in (
            (topics.CHANNEL_STATE.name, state.records),
            (topics.SIGNATURES.name, state.signatures),
        ):
            async for records in committed(consumer, topic, partition):
                _take(table, state.tails[topic], records)
        checkpoint = state.records.pop(CHECKPOINT_KEY, None)
        if checkpoint is not None:
            state.checkpoint = Checkpoint.model_validate_json(checkpoint)
        outcomes = committed(consumer, topics.OUTCOMES.name, partition, state.checkpoint.outcomes_from)
        async for records in outcomes:
            _remember(state, records)
    return state


@asynccontextmanager
async def log_reader(bootstrap_servers: str, security: dict[str, Any]) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer for `committed`."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=16 * 1024 * 1024,
        fetch_max_wait_ms=_WAIT_MS,
        **security,
    )
    try:
        await consumer.start()
        yield consumer
    finally:
        await consumer.stop()


async def committed(
    consumer: AIOKafkaConsumer, topic: str, partition: int, start: int = 0, at_once: int | None = None
) -> AsyncIterator[Sequence[ConsumerRecord]]:
    """Every committed record from ``start`` to the partition's present end, some at a time."""
    source = TopicPartition(topic, partition)
    consumer.assign([source])
    first = (await consumer.beginning_offsets([source]))[source]
    end = (await consumer.end_offsets([source]))[source]
    consumer.seek(source, max(first, start))
    while await consumer.position(source) < end:
        fetched = await consumer.getmany(source, timeout_ms=_WAIT_MS, max_records=at_once)
        if records := fetched.get(source):
            yield records


def _take(table: dict[bytes, bytes], tail: Tail, records: Sequence[ConsumerRecord]) -> None:
    """Takes over records of a compacted topic. Millions come here: what is the same for all is not done for each."""
    secrets = records[0].topic == topics.SIGNATURES.name
    for record in records:
        key, value = record.key, record.value
        if value is None:
            table.pop(key, None)
            if not key.startswith(b"~"):
                tail.appended(record.timestamp, leaves_old_value=True)
        else:
            if secrets and key in table:
                tail.appended(record.timestamp, leaves_old_value=True)
            table[key] = value
    tail.appended(max(record.timestamp for record in records), leaves_old_value=False)


def _remember(state: PartitionState, records: Sequence[ConsumerRecord]) -> None:
    for record in records:
        headers = dict(record.headers)
        digest = headers.get("digest")
        if digest is None:
            continue
        key = memory_key(headers["accountid"].decode(), record.key.decode(), headers["causationid"].decode())
        if state.memory.get(key) is None:
            state.memory.adopt(record.offset, {key: RememberedAnswer(digest, data_of(record.value))})

"""Restores a partition's state from the log: state records and signatures to their ends, and the tail of outcomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from contracts import topics
from services.decider.encoding import data_of
from services.decider.memory import RememberedAnswer, memory_key
from services.decider.partition_state import CHECKPOINT_KEY, Checkpoint, PartitionState, Tail


async def restore(bootstrap_servers: str, security: dict[str, Any], partition: int) -> PartitionState:
    """The partition's state as the log has it now. To be called after the fence, when nobody else writes."""
    state = PartitionState()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=16 * 1024 * 1024,
        **security,
    )
    await consumer.start()
    try:
        for topic, table in (
            (topics.CHANNEL_STATE.name, state.records),
            (topics.SIGNATURES.name, state.signatures),
        ):
            take = partial(_take, table, state.tails[topic])
            await _read(consumer, topic, partition, 0, take)
        checkpoint = state.records.pop(CHECKPOINT_KEY, None)
        if checkpoint is not None:
            state.checkpoint = Checkpoint.model_validate_json(checkpoint)
        await _read(
            consumer,
            topics.OUTCOMES.name,
            partition,
            state.checkpoint.outcomes_from,
            partial(_remember, state),
        )
    finally:
        await consumer.stop()
    return state


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


async def _read(
    consumer: AIOKafkaConsumer, topic: str, partition: int, start: int, take: Callable[[Sequence[ConsumerRecord]], None]
) -> None:
    """Hands every committed record from ``start`` to the partition's present end to ``take``, some at a time."""
    source = TopicPartition(topic, partition)
    consumer.assign([source])
    first = (await consumer.beginning_offsets([source]))[source]
    end = (await consumer.end_offsets([source]))[source]
    consumer.seek(source, max(first, start))
    while await consumer.position(source) < end:
        if records := (await consumer.getmany(source, timeout_ms=1_000)).get(source):
            take(records)

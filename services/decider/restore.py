"""Restores a partition's state from Kafka: state records, signatures, and the outcomes of the idempotency window."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from contracts import topics
from services.decider.idempotency_window import chunk_keys, idempotency_key
from services.decider.partition_state import PartitionState, Tail
from services.domain.state_topic import CHECKPOINT_KEY, Checkpoint

_WAIT_MS = 20
"""Nothing else is written during a restore. Every topic ends in the fence's aborted records, which a reader does not
see: aiokafka's defaults would cost one more second per topic, and delay the next by half a second."""


async def restore(bootstrap_servers: str, security: dict[str, Any], partition: int) -> PartitionState:
    """The partition's present state. Called after the fence, when no other process writes to the partition."""
    state = PartitionState()
    async with log_reader(bootstrap_servers, security) as consumer:
        for topic, table in (
            (topics.CHANNEL_STATE.name, state.records),
            (topics.SIGNATURES.name, state.signatures),
        ):
            async for records in read_committed(consumer, topic, partition):
                _load(table, state.tails[topic], records)
        checkpoint = state.records.pop(CHECKPOINT_KEY, None)
        if checkpoint is not None:
            state.checkpoint = Checkpoint.model_validate_json(checkpoint)
        chunks = {key: state.records.pop(key) for key in chunk_keys(state.records)}
        state.idempotency_window.restore_chunks(chunks)
        outcomes = read_committed(consumer, topics.OUTCOMES.name, partition, state.checkpoint.outcomes_from)
        async for records in outcomes:
            _remember_outcomes(state, records)
    return state


@asynccontextmanager
async def log_reader(bootstrap_servers: str, security: dict[str, Any]) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer for `read_committed`."""
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


async def read_committed(
    consumer: AIOKafkaConsumer,
    topic: str,
    partition: int,
    start: int = 0,
    at_once: int | None = None,
    end: int = sys.maxsize,
) -> AsyncIterator[Sequence[ConsumerRecord]]:
    """Yields every committed record from ``start`` to ``end`` or the partition's present end, at most ``at_once`` at a
    time."""
    tp = TopicPartition(topic, partition)
    consumer.assign([tp])
    first = (await consumer.beginning_offsets([tp]))[tp]
    end = min(end, (await consumer.end_offsets([tp]))[tp])
    consumer.seek(tp, max(first, start))
    while await consumer.position(tp) < end:
        fetched = await consumer.getmany(tp, timeout_ms=_WAIT_MS, max_records=at_once)
        if records := [record for record in fetched.get(tp, ()) if record.offset < end]:
            yield records


def _load(table: dict[bytes, bytes], tail: Tail, records: Sequence[ConsumerRecord]) -> None:
    """Applies records of a compacted topic. There are millions: what is the same for all is computed once per batch."""
    secrets = records[0].topic == topics.SIGNATURES.name
    for record in records:
        key, value = record.key, record.value
        if value is None:
            table.pop(key, None)
            if not key.startswith(b"~"):
                tail.record_append(record.timestamp, leaves_old_value=True)
        else:
            if secrets and key in table:
                tail.record_append(record.timestamp, leaves_old_value=True)
            table[key] = value
    tail.record_append(max(record.timestamp for record in records), leaves_old_value=False)


def _remember_outcomes(state: PartitionState, records: Sequence[ConsumerRecord]) -> None:
    for record in records:
        headers = dict(record.headers)
        if "digest" not in headers:
            continue
        account = headers["accountid"].decode()
        key = idempotency_key(account, record.key.decode(), headers["causationid"].decode())
        state.idempotency_window.restore_outcome(key, account, record.offset, record.timestamp)

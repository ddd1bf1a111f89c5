"""Restores a partition's state from Kafka: state records, signatures, and the outcomes of the idempotency window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiokafka import ConsumerRecord

from contracts import topics
from services.decider.idempotency_window import chunk_keys, idempotency_key
from services.decider.partition_state import PartitionState, Tail
from services.domain.state_topic import CHECKPOINT_KEY, Checkpoint
from services.infrastructure.log_reader import log_reader, read_committed


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

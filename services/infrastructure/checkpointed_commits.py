"""Transactions that apply records of a partition and move its checkpoint past them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import structlog
from aiokafka import TopicPartition

from contracts.cursor import Position
from services.infrastructure import tracing
from services.infrastructure.checkpoints import move_checkpoint
from services.infrastructure.consumer_metrics import ConsumerMetrics
from services.infrastructure.poison_messages import AnotherProcess, isolate_poison, reason_of
from services.infrastructure.postgres import Connection, Pool

log = structlog.stdlib.get_logger(__name__)

Done = Callable[[bool], None]
"""Called with whether the transaction was committed; False also where that is unknown."""

Apply = Callable[[Connection, int, Sequence[Any]], Awaitable[Done | None]]
"""Applies records of one partition within the batch's transaction: (connection, partition, aiokafka records)."""

SetAside = Callable[[Connection, Any, str], Awaitable[None]]
"""Answers one record whose application raised, in the transaction that passes it: (connection, record, reason)."""


class NotAtCheckpoint(AnotherProcess):
    """Another process moved the checkpoint: this one is a zombie for the partition, and must read it again."""


@dataclass(slots=True)
class CheckpointedCommits:
    """The commits of one consumer to one partition. ``next_offset`` is where its checkpoint stands."""

    pool: Pool
    consumer: str
    partition: TopicPartition
    next_offset: int
    committed: Callable[[], None]
    metrics: ConsumerMetrics

    async def commit(self, records: Sequence[Any], apply: Apply, sequence: int | None = None) -> None:
        """Applies the records in one transaction. Raises `NotAtCheckpoint`, and what ``apply`` raises."""
        to = Position(records[-1].offset + 1, sequence)
        done: Done | None = None
        committed = False
        begun = perf_counter()
        try:
            async with self.pool.acquire() as connection, connection.transaction():
                done = await apply(connection, self.partition.partition, records)
                if not await move_checkpoint(connection, self.consumer, self.partition, self.next_offset, to):
                    raise NotAtCheckpoint
            committed = True
        finally:
            if done is not None:
                done(committed)
        seconds = perf_counter() - begun
        self.metrics.committed(self.partition, len(records), seconds)
        if tracing.is_on():
            topic, number = self.partition
            where = tracing.kafka_attributes(topic, number) | {"messaging.consumer.group.name": self.consumer}
            tracing.record_batch(topic, records, seconds, where)
        self.next_offset = to.offset
        log.debug(
            "batch applied",
            consumer=self.consumer,
            topic=self.partition.topic,
            partition=self.partition.partition,
            records=len(records),
            next_offset=to.offset,
        )
        self.committed()

    async def commit_around_poison(self, records: Sequence[Any], apply: Apply, set_aside: SetAside) -> None:
        """The same in as many transactions as it takes to set aside the records whose application raises."""

        async def apply_all(several: Sequence[Any]) -> None:
            await self.commit(several, apply)

        async def pass_over(record: Any, error: Exception) -> None:
            async def answer(connection: Connection, _: int, __: Sequence[Any]) -> None:
                await set_aside(connection, record, reason_of(error))

            await self.commit([record], answer)

        await isolate_poison(records, apply_all, pass_over)

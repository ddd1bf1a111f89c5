"""Consuming topics into Postgres, each record's effect exactly once.

One Postgres transaction a batch and partition: what the batch does, and a compare-and-set of the consumer's checkpoint.
Partitions of different numbers go side by side: while the database works for one, the next is made ready.
Kafka's own offsets are advice for lag tools: after every rebalance the consumer seeks to its checkpoint.

FastStream's batch handler swallows exceptions, and a manual commit then skips the failed batch; a batch may also mix
partitions. So batches are split here, and a partition whose batch failed is sought back to where that batch began.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError
from faststream import AckPolicy
from faststream.kafka import KafkaBroker, KafkaMessage

from services.infrastructure.kafka import GROUP_METADATA_MAX_AGE_MS, faststream_security, security_options
from services.infrastructure.postgres import OUTAGES, Connection, Pool, migrate
from services.infrastructure.settings import Settings

log = logging.getLogger(__name__)

Done = Callable[[bool], None]
"""Is told whether the transaction was committed; False also where nobody knows."""

Apply = Callable[[Connection, int, Sequence[Any]], Awaitable[Done | None]]
"""Applies records of one partition within the batch's transaction: (connection, partition, aiokafka records)."""

MIGRATIONS = Path(__file__).with_name("migrations")
_POLL_MS = 50
_NOTE_EVERY_S = 1.0

_READ = "SELECT next_offset FROM switchboard.checkpoints WHERE consumer = $1 AND topic = $2 AND partition = $3"
_BEGIN = """
    INSERT INTO switchboard.checkpoints (consumer, topic, partition, next_offset) VALUES ($1, $2, $3, 0)
    ON CONFLICT DO NOTHING
"""
_MOVE = """
    UPDATE switchboard.checkpoints SET next_offset = $5, moved_at = now()
    WHERE consumer = $1 AND topic = $2 AND partition = $3 AND next_offset = $4
    RETURNING next_offset
"""


async def move_checkpoint(connection: Connection, consumer: str, home: TopicPartition, at: int, to: int) -> bool:
    """Within the transaction of what it stands for; False where it does not stand ``at``.

    One that is not there stands at 0. A database that lost its last commits may have lost the first of a checkpoint
    too: who believes to be further on must not begin another one there.
    """
    where = (consumer, home.topic, home.partition)
    if at == 0:
        await connection.execute(_BEGIN, *where)
    return await connection.fetchval(_MOVE, *where, at, to) is not None


class NotAtCheckpoint(Exception):
    """Another process moved the checkpoint since: this one is a zombie for the partition, and must look again."""


class Consumer(ConsumerRebalanceListener):  # type: ignore[misc]
    """One consumer group member that applies topics to the database under the name ``name``.

    ``applied`` is called after each batch that is committed. So many ``records_at_once`` are taken from the broker.
    """

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        name: str,
        appliers: Mapping[str, Apply],
        applied: Callable[[], None] = lambda: None,
        records_at_once: int = 8_000,
    ) -> None:
        self._pool = pool
        self._records_at_once = records_at_once
        self._name = name
        self._appliers = appliers
        self._next: dict[TopicPartition, int] = {}
        """Where each assigned partition stands, as this process believes; empty means: ask the database."""
        self._troubled = False
        self._noted_at = 0.0
        self._applied = applied
        self._broker = KafkaBroker(
            settings.kafka_bootstrap_servers or "",
            security=faststream_security(security_options()),
            metadata_max_age_ms=GROUP_METADATA_MAX_AGE_MS,
            allow_auto_create_topics=False,
            apply_types=False,
            logger=None,
        )
        subscriber = self._broker.subscriber(
            *appliers,
            batch=True,
            group_id=name,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            ack_policy=AckPolicy.MANUAL,
            max_records=records_at_once,
            batch_timeout_ms=_POLL_MS,
            max_partition_fetch_bytes=4 * 1024 * 1024,
            listener=self,
            parser=_as_they_came,
            decoder=_as_it_came,
        )
        subscriber(self._take)

    async def start(self) -> None:
        """Returns when the group is joined; waits for the broker as long as it takes."""
        await migrate(self._pool, "checkpoints", MIGRATIONS)
        waited = False
        while True:
            try:
                await self._broker.start()
            except (KafkaError, OSError) as error:
                if not waited:
                    log.warning("%s: waiting for the broker (%s)", self._name, type(error).__name__)
                waited = True
                await self._broker.stop()
                await asyncio.sleep(1)
            else:
                return

    async def stop(self) -> None:
        await self._broker.stop()

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        for partition in revoked:
            self._next.pop(partition, None)

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        log.info("%s: consuming %s", self._name, sorted((one.topic, one.partition) for one in assigned))

    async def _take(self, message: KafkaMessage) -> None:
        """Topics are partitioned alike: what touches the same rows has the same number, and goes one after another."""
        by_number: dict[int, dict[TopicPartition, list[Any]]] = defaultdict(lambda: defaultdict(list))
        # FastStream's message is part of a cycle: what it still held would wait for the garbage collector.
        records: Any
        records, message.raw_message = message.raw_message, ()
        for record in records:
            by_number[record.partition][TopicPartition(record.topic, record.partition)].append(record)
        consumer: Any = message.consumer
        await asyncio.gather(*(self._take_batches(consumer, batches) for batches in by_number.values()))
        if len(records) < self._records_at_once or time.monotonic() - self._noted_at > _NOTE_EVERY_S:
            await self._note(consumer)

    async def _take_batches(self, consumer: Any, batches: Mapping[TopicPartition, Sequence[Any]]) -> None:
        for partition, batch in batches.items():
            try:
                await self._apply(consumer, partition, batch)
                self._troubled = False
            except OUTAGES as error:
                await self._look_again(consumer, partition, batch, f"waiting for the database ({type(error).__name__})")
            except NotAtCheckpoint:
                await self._look_again(consumer, partition, batch, "another process had the partition")
            except Exception:
                if not self._troubled:
                    log.exception("%s: %s stands still", self._name, partition)
                self._troubled = True
                await self._look_again(consumer, partition, batch, "a batch failed")

    async def _apply(self, consumer: Any, partition: TopicPartition, batch: Sequence[Any]) -> None:
        if partition not in self._next:
            stands = await self._pool.fetchval(_READ, self._name, partition.topic, partition.partition)
            self._next[partition] = stands or 0
            if batch[0].offset != self._next[partition]:
                consumer.seek(partition, self._next[partition])
                return
        expected, then = self._next[partition], batch[-1].offset + 1
        fresh = [record for record in batch if record.offset >= expected]
        if not fresh:
            return
        done: Done | None = None
        committed = False
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                done = await self._appliers[partition.topic](connection, partition.partition, fresh)
                if not await move_checkpoint(connection, self._name, partition, expected, then):
                    raise NotAtCheckpoint
            committed = True
        finally:
            if done is not None:
                done(committed)
        self._next[partition] = then
        self._applied()

    async def _note(self, consumer: Any) -> None:
        """Tells the group where it is. Advice only: the checkpoint is in the database."""
        self._noted_at = time.monotonic()
        mine = consumer.assignment()
        try:
            await consumer.commit({partition: at for partition, at in self._next.items() if partition in mine})
        except (KafkaError, ValueError) as error:
            log.debug("%s: offsets not noted (%s)", self._name, type(error).__name__)

    async def _look_again(self, consumer: Any, partition: TopicPartition, batch: Sequence[Any], why: str) -> None:
        if not self._troubled:
            log.warning("%s: %s partition %d: %s", self._name, partition.topic, partition.partition, why)
        self._troubled = True
        self._next.pop(partition, None)
        if partition in consumer.assignment():
            consumer.seek(partition, batch[0].offset)
        await asyncio.sleep(0.5)


async def _as_they_came(records: tuple[Any, ...], parse: Callable[[Any], Awaitable[KafkaMessage]]) -> KafkaMessage:
    """Hands the records over whole. FastStream's parser takes every header for text, and where one is none it fails
    before anybody can catch it: the whole batch would be skipped without a trace."""
    message = await parse((replace(records[0], headers=()),))
    message.raw_message = records
    return message


async def _as_it_came(message: KafkaMessage) -> KafkaMessage:
    """Hands the whole message to the handler: bodies are parsed by whoever knows what they are."""
    return message

"""Publishes the outbox exactly once: one transactional id per partition, and its last position says where to go on.

Each transaction holds records of the outbox and, on `switchboard.outbox-positions`, the number of the last of them. A
publisher starts a producer of the partition's id, which fences the earlier one; aborts a transaction once; reads the
last position; deletes the rows up to there; and publishes the rest, in order. At any doubt it throws the producer away
and starts over.

The key of a position is the epoch of the partition's numbers in this database. A database that lost commits gives
numbers a second time. Where it is behind its own position, it begins a new epoch, so that nothing new is taken for
published. Where the last position is another database's, or ahead, the partition lacks what was published: it is
restored (`restore`) before it is verified, and what is decided or told again is passed over here.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AsyncExitStack
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from contracts import topics
from services.infrastructure.log_end import last_record
from services.infrastructure.postgres import OUTAGES, Pool
from services.infrastructure.transactions import COMMIT_TIMEOUT_S, OutgoingRecord, TransactionalProducer
from services.message_router.outbox import IS_VERIFIED, NotVerified
from services.message_router.published import published_id
from services.message_router.restore import restore

log = structlog.stdlib.get_logger(__name__)

WRITTEN_TOPICS = (topics.MESSAGE_DECISIONS, topics.USAGE, topics.DEAD_LETTERS, topics.OUTBOX_POSITIONS)
_FENCE_KEY = b"~fence"
_BATCH = 500
_BATCH_BYTES = 4_000_000
"""About how much is held in memory: a dead letter may have megabytes."""
_POLL_S = 1.0
"""Whoever writes in this process says so; another router rarely writes for a partition that it does not own."""
_START_TIMEOUT_S = 30.0

_DELETE_AND_SELECT = """
    WITH published AS (DELETE FROM message_router.outbox WHERE partition = $1 AND number > $2 AND number <= $3)
    SELECT number, topic, key, value, headers FROM (
        SELECT *, sum(octet_length(value)) OVER (ORDER BY number) - octet_length(value) AS bytes_before
        FROM (SELECT * FROM message_router.outbox WHERE partition = $1 AND number > $3 ORDER BY number LIMIT $4) AS next
    ) AS counted
    WHERE bytes_before IS NULL OR bytes_before < $5 ORDER BY number
"""
ENSURE = """
    INSERT INTO message_router.outbox_numbers (partition) SELECT unnest($1::int[]) ON CONFLICT DO NOTHING
"""
_NUMBERS = "SELECT number, epoch FROM message_router.outbox_numbers WHERE partition = $1"
_UNVERIFY = "DELETE FROM message_router.verified_partitions WHERE partition = $1"
VERIFY = """
    INSERT INTO message_router.verified_partitions (partition, database)
    SELECT unnest($1::int[]), oid FROM pg_database WHERE datname = current_database()
    ON CONFLICT (partition) DO UPDATE
    SET server_started = excluded.server_started, database = excluded.database, written_by = excluded.written_by
"""
_IS_VERIFIED = f"SELECT {IS_VERIFIED} FROM message_router.outbox_numbers o WHERE partition = $1"  # noqa: S608
_ANY_PUBLISHED = "SELECT EXISTS (SELECT FROM message_router.published WHERE partition = $1)"
_PUBLISHED = "SELECT id FROM message_router.published WHERE partition = $1 AND id = ANY($2::text[])"
_NEW_EPOCH = """
    UPDATE message_router.outbox_numbers SET epoch = DEFAULT WHERE partition = $1 AND epoch = $2 RETURNING epoch
"""


def transactional_id(partition: int) -> str:
    """One per partition, the same in every process: a producer that starts with it fences the earlier one."""
    return f"switchboard.message-router-{partition}"


def fence_records(partition: int) -> list[OutgoingRecord]:
    """A record for every topic that a publisher writes to; only ever written to be aborted."""
    return [OutgoingRecord(topic.name, partition, _FENCE_KEY, b"") for topic in WRITTEN_TOPICS]


class PartitionPublisher:
    """Publishes one partition's outbox until it is stopped."""

    def __init__(
        self,
        pool: Pool,
        bootstrap_servers: str,
        security: dict[str, Any],
        partition: int,
        on_step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._pool, self._bootstrap_servers, self._security = pool, bootstrap_servers, security
        self._partition, self._on_step = partition, on_step
        self._wake = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name=f"publisher of partition {partition}")

    def notify(self) -> None:
        """New rows may be in the outbox."""
        self._wake.set()

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            producer = TransactionalProducer(self._bootstrap_servers, transactional_id(self._partition), self._security)
            try:
                async with AsyncExitStack() as stack:
                    stack.push_async_callback(producer.discard)
                    await self._own(producer)
            except (KafkaError, *OUTAGES) as error:
                log.warning(
                    "publisher starts over",
                    partition=self._partition,
                    reason=type(error).__name__,
                    exc_info=isinstance(error, TimeoutError),  # which step it was that took so long
                )
            except asyncio.CancelledError as error:
                # aiokafka can leak the CancelledError of its own tasks, although this task is not cancelled.
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                log.warning("publisher starts over", partition=self._partition, reason=type(error).__name__)
            except Exception:
                log.exception("publisher starts over", partition=self._partition)
            await asyncio.sleep(random.uniform(0.1, 1.0))  # noqa: S311 -- jitter, not cryptography

    async def _own(self, producer: TransactionalProducer) -> None:
        async with asyncio.timeout(_START_TIMEOUT_S):
            await producer.start()
            await self._abort_leftovers(producer)
            self._on_step("fenced")
        epoch, published = await self._verify(producer)
        repeats = await self._pool.fetchval(_ANY_PUBLISHED, self._partition)
        log.info("outbox is published", partition=self._partition, after=published)
        deleted = 0
        while True:
            self._wake.clear()
            rows = await self._pool.fetch(_DELETE_AND_SELECT, self._partition, deleted, published, _BATCH, _BATCH_BYTES)
            deleted = published
            if rows:
                fresh = await self._without_repeats(rows) if repeats else rows
                await self._publish(producer, epoch, fresh, rows[-1]["number"])
                published = rows[-1]["number"]
            elif not await self._pool.fetchval(_IS_VERIFIED, self._partition):
                raise NotVerified
            else:
                try:
                    async with asyncio.timeout(_POLL_S):
                        await self._wake.wait()
                except TimeoutError:
                    pass

    async def _verify(self, producer: TransactionalProducer) -> tuple[str, int]:
        """The epoch of the partition's numbers, and the last published one. The earlier owner must be fenced.

        From then on the partition's messages may be worked on.
        """
        await self._pool.execute(ENSURE, [self._partition])
        [(number, epoch)] = await self._pool.fetch(_NUMBERS, self._partition)
        async with asyncio.timeout(_START_TIMEOUT_S):
            published, is_last, partitions = await self._positions(epoch)
        await self._pool.execute(ENSURE, list(range(partitions)))  # so that those which are not verified are known
        if published > number or not is_last:
            log.error("the database lacks what was published: restoring it", partition=self._partition)
            await self._pool.execute(_UNVERIFY, self._partition)
            await restore(self._pool, self._bootstrap_servers, self._security, self._partition, partitions)
            if published > number:
                epoch, published = await self._pool.fetchval(_NEW_EPOCH, self._partition, epoch), 0
            await self._publish(producer, epoch, (), published)
        await self._pool.execute(VERIFY, [self._partition])
        return epoch, published

    async def _without_repeats(self, rows: Sequence[Any]) -> Sequence[Any]:
        """The rows that were not published before the database lost them."""
        ids = [published_id(row["topic"], row["value"], _named(row["headers"])) for row in rows]
        known = await self._pool.fetch(_PUBLISHED, self._partition, [one for one in ids if one is not None])
        repeated = {row["id"] for row in known}
        return [row for row, one in zip(rows, ids, strict=True) if one not in repeated]

    async def _publish(self, producer: TransactionalProducer, epoch: str, rows: Sequence[Any], last: int) -> None:
        """Publishes the rows, and that the outbox is published up to the number ``last``."""
        records = [
            OutgoingRecord(
                row["topic"],
                self._partition,
                row["key"],
                row["value"],
                [(name, text.encode()) for name, text in _named(row["headers"]).items()],
            )
            for row in rows
        ]
        position = str(last).encode()
        records.append(OutgoingRecord(topics.OUTBOX_POSITIONS.name, self._partition, epoch.encode(), position))
        self._on_step("publishing")
        async with asyncio.timeout(COMMIT_TIMEOUT_S):
            await producer.begin()
            await producer.append(records, time.time_ns() // 1_000_000)
            self._on_step("sent")
            await producer.commit()
        self._on_step("published")

    async def _abort_leftovers(self, producer: TransactionalProducer) -> None:
        """Aborts a transaction that touches every topic: after a restart of the broker, the next commit could else
        commit records of an earlier transaction of the same producer id."""
        await producer.begin()
        await producer.append(fence_records(self._partition), time.time_ns() // 1_000_000)
        await producer.abort()

    async def _positions(self, epoch: str) -> tuple[int, bool, int]:
        """The last published number of the epoch, 0 where there is none; that no other epoch's comes after it; and how
        many partitions there are."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap_servers,
            isolation_level="read_committed",
            enable_auto_commit=False,
            **self._security,
        )
        tp = TopicPartition(topics.OUTBOX_POSITIONS.name, self._partition)
        try:
            await consumer.start()
            start, end = (await consumer.beginning_offsets([tp]))[tp], (await consumer.end_offsets([tp]))[tp]
            newest = await last_record(consumer, tp, start, end, _is_position)
            own, is_last = newest, newest is None or newest.key == epoch.encode()
            if not is_last:
                own = await last_record(consumer, tp, start, end, lambda record: _is_position(record, epoch))
            return 0 if own is None else int(own.value), is_last, len(consumer.partitions_for_topic(tp.topic) or ())
        finally:
            await consumer.stop()


def _is_position(record: Any, epoch: str | None = None) -> bool:
    return (epoch is None or record.key == epoch.encode()) and (record.value or b"").isdigit()


def _named(texts: Sequence[str]) -> dict[str, str]:
    """The headers of names and texts in turn."""
    return dict(zip(texts[::2], texts[1::2], strict=True))


class OutboxPublisher:
    """The publishers of the partitions that this process owns."""

    def __init__(
        self,
        pool: Pool,
        bootstrap_servers: str,
        security: dict[str, Any],
        on_step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._arguments = pool, bootstrap_servers, security
        self._on_step = on_step
        self._publishers: dict[int, PartitionPublisher] = {}
        self._stopping: set[asyncio.Task[None]] = set()

    def own(self, partitions: frozenset[int]) -> None:
        """Publishes these partitions from now on, and no others."""
        for partition in self._publishers.keys() - partitions:
            task = asyncio.create_task(self._publishers.pop(partition).stop())
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)
        for partition in partitions - self._publishers.keys():
            self._publishers[partition] = PartitionPublisher(*self._arguments, partition, self._on_step)

    def notify(self, partitions: Collection[int]) -> None:
        """New rows may be in the outbox of these partitions."""
        for partition in self._publishers.keys() & partitions:
            self._publishers[partition].notify()

    async def stop(self) -> None:
        self.own(frozenset())
        await asyncio.gather(*self._stopping)

"""Consuming topics into Postgres, each record's effect exactly once.

One Postgres transaction per batch and partition holds the batch's effect and a compare-and-set of the checkpoint.
Partitions of different numbers run concurrently: while the database works for one, the next is prepared.
Kafka's own offsets only serve lag tools: after every rebalance the consumer seeks to its checkpoint.

A database may lose commits that it acknowledged: a crash under ``synchronous_commit=off``, a failover to an
asynchronous replica, a restored backup. Checkpoints are lost with what they stand for, so every consumer regularly
compares them with what it committed, and reads the lost part again. Comparing only with the next record would leave an
idle partition stale.

FastStream's batch handler swallows exceptions, and a manual commit then skips the failed batch; a batch may also mix
partitions. So batches are split here, and a partition whose batch failed is sought back to where that batch began.

A partition that was added is read after its parent: see `parent_partitions`.

After a gap in the log nothing can be told: every consumer of events applies what is before it, and stops there. An
event whose application raises stops its partition too, because none may be skipped. A topic of requests goes on: see
`poison_messages`.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import structlog
from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError
from faststream import AckPolicy
from faststream.kafka import KafkaBroker, KafkaMessage

from contracts.cursor import FIRST_POSITION, Position, SequenceGap
from contracts.topics import EVENTS, FETCH_BYTES_PER_PARTITION
from services.infrastructure.checkpointed_commits import Apply, CheckpointedCommits, NotAtCheckpoint, SetAside
from services.infrastructure.checkpoints import MIGRATIONS, next_offsets, next_positions
from services.infrastructure.config import Settings
from services.infrastructure.consumer_metrics import ConsumerMetrics
from services.infrastructure.event_sequence import take_until_gap
from services.infrastructure.kafka import (
    GROUP_HEARTBEAT_INTERVAL_MS,
    GROUP_METADATA_MAX_AGE_MS,
    faststream_security,
    security_options,
)
from services.infrastructure.library_internals.faststream import decode_nothing, parse_batch_unread, take_records
from services.infrastructure.outages import retry_during_outage
from services.infrastructure.parent_partitions import ParentPartitions
from services.infrastructure.postgres import OUTAGES, Pool, migrate

log = structlog.stdlib.get_logger(__name__)

_POLL_MS = 50
_COMPARE_INTERVAL_S = 1.0
"""How soon a lost checkpoint is noticed. It costs one query by key per topic. Lag tools are as far behind."""


class Consumer(ConsumerRebalanceListener):  # type: ignore[misc]
    """One consumer group member that applies topics to the database under the name ``name``.

    ``applied`` is called after each committed batch, ``on_assignment`` with each assignment as a whole.
    A poll takes at most ``records_at_once`` records. A topic of ``set_aside`` passes a record whose application raises,
    once it is answered so; every other topic's partition waits at such a record.
    """

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        name: str,
        appliers: Mapping[str, Apply],
        applied: Callable[[], None] = lambda: None,
        records_at_once: int = 8_000,
        on_assignment: Callable[[frozenset[TopicPartition]], None] = lambda _: None,
        set_aside: Mapping[str, SetAside] | None = None,
    ) -> None:
        self._pool = pool
        self._records_at_once = records_at_once
        self._name = name
        self._metrics = ConsumerMetrics(name)
        self._appliers = appliers
        self._set_aside = set_aside or {}
        self._next: dict[TopicPartition, Position] = {}
        """Next position in each assigned partition. A missing one is read from the database."""
        self._sought: set[TopicPartition] = set()
        """Assigned partitions whose position is known not to be behind the checkpoint."""
        self._parents = ParentPartitions(pool, name, settings.kafka_bootstrap_servers)
        self._comparing: asyncio.Task[None] | None = None
        self._failing: set[TopicPartition] = set()
        """Partitions whose last batch failed, so that a failure is logged once."""
        self._committed_to_group: dict[TopicPartition, int] = {}
        self._applied = applied
        self._on_assignment = on_assignment
        self._broker = KafkaBroker(
            # FastStream takes a text for one address, even where aiokafka would split it.
            (settings.kafka_bootstrap_servers or "").split(","),
            security=faststream_security(security_options()),
            metadata_max_age_ms=GROUP_METADATA_MAX_AGE_MS,
            allow_auto_create_topics=False,
            apply_types=False,
            logger=None,
        )
        self._subscriber = self._broker.subscriber(
            *appliers,
            batch=True,
            group_id=name,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            ack_policy=AckPolicy.MANUAL,
            max_records=records_at_once,
            batch_timeout_ms=_POLL_MS,
            max_partition_fetch_bytes=FETCH_BYTES_PER_PARTITION,
            heartbeat_interval_ms=GROUP_HEARTBEAT_INTERVAL_MS,
            listener=self,
            parser=parse_batch_unread,
            decoder=decode_nothing,
        )
        self._subscriber(self._consume)

    async def start(self) -> None:
        """Returns when the group is joined; waits for the broker as long as it takes."""
        await migrate(self._pool, "checkpoints", MIGRATIONS)
        await retry_during_outage(self._start_broker, (KafkaError, OSError), "broker")
        self._comparing = asyncio.create_task(self._compare_regularly())

    async def _start_broker(self) -> None:
        try:
            await self._broker.start()
        except BaseException:
            await self._broker.stop()
            raise

    async def stop(self) -> None:
        if self._comparing is not None:
            self._comparing.cancel()
            await asyncio.wait([self._comparing])
        await self._broker.stop()

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        for partition in revoked:
            self._next.pop(partition, None)
            self._sought.discard(partition)
            self._parents.revoked(partition)
            self._metrics.revoked(partition)

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._on_assignment(frozenset(assigned))
        partitions = [f"{tp.topic}/{tp.partition}" for tp in sorted(assigned)]
        log.info("partitions assigned", consumer=self._name, partitions=partitions)

    async def _consume(self, message: KafkaMessage) -> None:
        """Applies partitions of different numbers concurrently; equal numbers of several topics touch the same rows."""
        by_number: dict[int, dict[TopicPartition, list[Any]]] = defaultdict(lambda: defaultdict(list))
        records = take_records(message)
        for record in records:
            by_number[record.partition][TopicPartition(record.topic, record.partition)].append(record)
        consumer: Any = message.consumer
        await asyncio.gather(*(self._apply_batches(consumer, batches) for batches in by_number.values()))

    async def _compare_regularly(self) -> None:
        while True:
            await asyncio.sleep(_COMPARE_INTERVAL_S)
            try:
                await self._commit_to_group()
                await self._compare_checkpoints()
                await self._parents.go_on(self._subscriber.consumer)
                await self._measure_lag()  # last: what fails here keeps no lost commit from being seen
            except OUTAGES:
                continue
            except Exception:
                log.exception("checkpoints not compared", consumer=self._name)

    async def _measure_lag(self) -> None:
        consumer: Any = self._subscriber.consumer
        for tp in consumer.assignment() & self._sought:
            self._metrics.measure(tp, await consumer.position(tp), consumer.last_stable_offset(tp))

    async def _compare_checkpoints(self) -> None:
        """Seeks to the checkpoint of each partition whose checkpoint is behind what this consumer has committed.

        What is compared was committed before the checkpoints are read, so a batch in progress makes no difference.
        The same for a partition without a record since its assignment: its group offset may be beyond the checkpoint.
        """
        consumer: Any = self._subscriber.consumer
        committed = {tp: position.offset for tp, position in self._next.items()}
        for topic in self._appliers:
            checkpoints = await next_offsets(self._pool, self._name, topic)
            for tp in [tp for tp in consumer.assignment() if tp.topic == topic]:
                checkpoint = checkpoints.get(tp.partition, 0)
                if tp in committed and checkpoint < committed[tp]:
                    log.warning(
                        "the database lost commits: seeking to the checkpoint",
                        **self._where(tp),
                        offset=checkpoint,
                        committed=committed[tp],
                    )
                    self._next.pop(tp, None)
                    consumer.seek(tp, checkpoint)
                elif tp not in self._next and tp not in self._sought:
                    consumer.seek(tp, checkpoint)
                self._sought.add(tp)

    async def _apply_batches(self, consumer: Any, batches: Mapping[TopicPartition, Sequence[Any]]) -> None:
        for partition, batch in batches.items():
            first = batch[0].offset
            self._metrics.begun(partition, batch[0])
            try:
                await self._apply_batch(consumer, partition, batch)
                self._failing.discard(partition)
                self._metrics.done(partition)
            except OUTAGES as error:
                await self._seek_back(consumer, partition, first, f"waiting for the database ({type(error).__name__})")
            except SequenceGap as gap:
                if partition not in self._failing:
                    log.error("stopped at a gap in the log", **self._where(partition), reason=str(gap))
                self._failing.add(partition)
                await self._seek_back(consumer, partition, self._next[partition].offset, "a gap in the log")
            except NotAtCheckpoint:
                await self._seek_back(consumer, partition, first, "another process had the partition")
            except Exception:
                if partition not in self._failing:
                    log.exception("batch failed", **self._where(partition))
                self._failing.add(partition)
                await self._seek_back(consumer, partition, first, "a batch failed")

    async def _apply_batch(self, consumer: Any, partition: TopicPartition, batch: Sequence[Any]) -> None:
        """Raises `SequenceGap` after what is before the gap was applied."""
        if partition not in self._next:
            stands = await next_positions(self._pool, self._name, partition.topic)
            at = stands.get(partition.partition, FIRST_POSITION)
            if at.offset == 0 and await self._parents.hold(consumer, partition, stands):
                return
            self._next[partition] = at
            if batch[0].offset != at.offset:
                log.info("seeking to the checkpoint", **self._where(partition), offset=at.offset)
                consumer.seek(partition, at.offset)
                return
        expected = self._next[partition]
        fresh = [record for record in batch if record.offset >= expected.offset]
        sequence, gap = None, None
        if partition.topic == EVENTS.name:
            count, sequence, gap = take_until_gap(fresh, expected.sequence)
            fresh = fresh[:count]
        if fresh:
            await self._commit(partition, fresh, sequence)
        if gap is not None:
            raise gap

    async def _commit(self, partition: TopicPartition, fresh: Sequence[Any], sequence: int | None) -> None:
        apply, set_aside = self._appliers[partition.topic], self._set_aside.get(partition.topic)
        commits = CheckpointedCommits(
            self._pool, self._name, partition, self._next[partition].offset, self._applied, self._metrics
        )
        if set_aside is None:
            await commits.commit(fresh, apply, sequence)
        else:
            await commits.commit_around_poison(fresh, apply, set_aside)
        self._next[partition] = Position(commits.next_offset, sequence)

    def _where(self, partition: TopicPartition) -> dict[str, Any]:
        return {"consumer": self._name, "topic": partition.topic, "partition": partition.partition}

    async def _commit_to_group(self) -> None:
        """Commits offsets to the group for lag tools. The checkpoint in the database decides, so no batch waits."""
        consumer: Any = self._subscriber.consumer
        mine = consumer.assignment()
        offsets = {tp: position.offset for tp, position in self._next.items() if tp in mine}
        if offsets == self._committed_to_group:
            return
        try:
            await consumer.commit(offsets)
            self._committed_to_group = offsets
        except (KafkaError, ValueError) as error:
            log.debug("offsets not committed to the group", consumer=self._name, error=type(error).__name__)

    async def _seek_back(self, consumer: Any, partition: TopicPartition, offset: int, reason: str) -> None:
        if partition not in self._failing:
            log.warning("seeking back", **self._where(partition), offset=offset, reason=reason)
        self._metrics.failed(reason)
        self._failing.add(partition)
        self._next.pop(partition, None)
        if partition in consumer.assignment():
            consumer.seek(partition, offset)
        await asyncio.sleep(0.5)

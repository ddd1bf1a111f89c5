"""The owner of one partition: decides its commands exactly once.

1. Start the partition's producer, which fences any earlier owner. Abort one transaction (see `fencing`). Only then
   restore the state from Kafka. While the number of partitions grows, wait: a growth fences every owner before it moves
   channels, and an owner looks for it after its own fence.
2. Per batch: decide on a fork; begin, append all records, await all of them, commit; only then adopt the fork.
3. On any failure or doubt: discard the producer and the state, wait for a short random time, and go back to 1.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from contracts import topics
from services.decider import metrics
from services.decider.batch import Batch, TooManyFailures
from services.decider.command_reader import CommandReader
from services.decider.config import DeciderConfig, KafkaConfig
from services.decider.fencing import abort_leftovers, transactional_id
from services.decider.growth_watch import GrowthWatch
from services.decider.maintenance import SEGMENT_MS, Maintenance
from services.decider.outcome_recall import OutcomeRecall
from services.decider.partition_state import Fork, PartitionState
from services.decider.restore import restore
from services.infrastructure import tracing
from services.infrastructure.consumer_metrics import ConsumerMetrics
from services.infrastructure.transactions import COMMIT_TIMEOUT_S, TransactionalProducer

log = structlog.stdlib.get_logger(__name__)

COMMANDS_PER_TRANSACTION = 500
_NAME = "switchboard.decider"
_START_TIMEOUT_S = 60
_ALERT_INTERVAL_S = 60


def _ignore_step(_: str) -> None:
    pass


class PartitionOwner:
    """Runs until `stop`; `pause` and `resume` bridge a rebalance that gives the partition back to this process.

    ``on_step`` is called with the name of each completed step, which is where the fault suite injects faults:
    ``started``, ``fenced``, ``restored``, ``checking`` (a schema), ``decided``, ``begun``, ``appended``, ``committed``,
    ``adopted``.
    """

    def __init__(
        self,
        kafka: KafkaConfig,
        config: DeciderConfig,
        on_step: Callable[[str], None] = _ignore_step,
        segment_ms: Mapping[str, int] = SEGMENT_MS,
    ) -> None:
        self.partition = config.partition
        self._commands = TopicPartition(topics.COMMANDS.name, self.partition)
        self._kafka = kafka
        self._growth = GrowthWatch(kafka, config)
        self._on_step = on_step
        self._segment_ms = segment_ms
        self._state: PartitionState | None = None
        self._consecutive_failures = 0
        self._batch_limit = COMMANDS_PER_TRANSACTION
        self._running = asyncio.Event()
        self._running.set()
        self._stopping = False
        self._logged: type[BaseException] | None = None
        self.serving = asyncio.Event()
        self._lag = ConsumerMetrics(_NAME)
        self._task = asyncio.create_task(self._run(), name=f"owner of partition {self.partition}")

    @property
    def _config(self) -> DeciderConfig:
        return self._growth.config

    @property
    def commands_per_account(self) -> Mapping[str, int]:
        """How many ids of each account are in the idempotency window."""
        return {} if self._state is None else self._state.idempotency_window.per_account

    @property
    def next_offset(self) -> int | None:
        """The offset of the next command to decide; None before the state is restored, and while commands of an older
        partition are decided."""
        if self._state is None or self._state.checkpoint.reading is not None:
            return None
        return self._state.checkpoint.next_offset

    def pause(self) -> None:
        self._running.clear()

    def resume(self) -> None:
        self._running.set()

    async def stop(self) -> None:
        """Waits for the open transaction, then releases the partition."""
        self._stopping = True
        self._running.set()
        _, late = await asyncio.wait([self._task], timeout=5)
        for task in late:
            task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        metrics.released(self.partition)
        self._lag.revoked(self._commands)

    async def _run(self) -> None:
        while not self._stopping:
            producer = TransactionalProducer(
                self._kafka.bootstrap_servers, transactional_id(self.partition), self._kafka.security
            )
            try:
                async with contextlib.AsyncExitStack() as stack:
                    stack.push_async_callback(producer.discard)
                    await self._growth.until_finished()
                    await self._own(producer, stack)
            except TooManyFailures as failure:
                self._serve_no_more()
                metrics.STOPPED.labels(str(self.partition)).set(1)
                await self._alert_until_stopped(failure)
            except (KafkaError, OSError, TimeoutError) as error:
                self._log_restart(error)
            except asyncio.CancelledError as error:
                # aiokafka can leak the CancelledError of its own tasks, although this task is not cancelled.
                if self._task.cancelling():
                    raise
                self._log_restart(error)
            except Exception as error:
                metrics.RESTARTS.labels(type(error).__name__).inc()
                log.exception("partition restarts", partition=self.partition)
            finally:
                self._serve_no_more()
                self._state = None
                # A busy broker that repeatedly times out gets smaller batches.
                self._batch_limit = max(1, self._batch_limit // 4)
            if not self._stopping:
                await asyncio.sleep(random.uniform(0.1, 1.0))  # noqa: S311 -- jitter, not cryptography

    def _serve_no_more(self) -> None:
        self.serving.clear()
        metrics.SERVING.labels(str(self.partition)).set(0)

    def _log_restart(self, error: BaseException) -> None:
        """Logs one line per outage; further restarts for the same reason are logged at debug level."""
        metrics.RESTARTS.labels(type(error).__name__).inc()
        known, self._logged = self._logged, type(error)
        level = logging.DEBUG if known is self._logged else logging.WARNING
        log.log(level, "partition restarts", partition=self.partition, reason=type(error).__name__)

    async def _alert_until_stopped(self, failure: TooManyFailures) -> None:
        """Repeats the alert: a single line could be overlooked."""
        while not self._stopping:
            log.critical(str(failure), partition=self.partition)
            await asyncio.sleep(_ALERT_INTERVAL_S)

    async def _own(self, producer: TransactionalProducer, stack: contextlib.AsyncExitStack) -> None:
        async with asyncio.timeout(_START_TIMEOUT_S):
            await producer.start()
            self._on_step("started")
            await self._abort_leftovers(producer)
        self._on_step("fenced")
        if not await self._growth.is_unchanged():
            return
        self._state = state = await restore(self._kafka.bootstrap_servers, self._kafka.security, self.partition)
        self._on_step("restored")
        maintenance = Maintenance(state, self.partition, self._segment_ms, self._config.keyring)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._kafka.bootstrap_servers,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            fetch_max_wait_ms=500,
            max_partition_fetch_bytes=topics.FETCH_BYTES_PER_PARTITION,
            **self._kafka.security,
        )
        stack.push_async_callback(consumer.stop)
        await consumer.start()
        commands, reader = self._commands, CommandReader(consumer, state, self._config)
        recall = OutcomeRecall(self._kafka.bootstrap_servers, self._kafka.security, self.partition)
        stack.push_async_callback(recall.close)
        self._lag = ConsumerMetrics(_NAME)
        self.serving.set()
        metrics.SERVING.labels(str(self.partition)).set(1)
        self._logged = None
        log.info("partition is served", partition=self.partition, next_offset=state.checkpoint.next_offset)
        while not self._stopping:
            await self._running.wait()
            incoming = await reader.fetch(self._batch_limit)
            if incoming:
                self._lag.begun(commands, incoming[0])
            if incoming and self._running.is_set():
                await self._transact(producer, state, maintenance, recall, incoming)
            if incoming and state.checkpoint.next_offset <= incoming[-1].offset:
                reader.seek()
            self._lag.measure(commands, *await reader.progress())
            if self._running.is_set():
                await self._run_maintenance(producer, maintenance)

    async def _run_maintenance(self, producer: TransactionalProducer, maintenance: Maintenance) -> None:
        now = _now()
        if records := maintenance.due(now):
            async with asyncio.timeout(COMMIT_TIMEOUT_S):
                await producer.begin()
                await producer.append(records, now)
                await producer.commit()
            maintenance.done(records, now)

    async def _abort_leftovers(self, producer: TransactionalProducer) -> None:
        await abort_leftovers(producer, self.partition, self._config.partitions, _now())

    async def _transact(
        self,
        producer: TransactionalProducer,
        state: PartitionState,
        maintenance: Maintenance,
        recall: OutcomeRecall,
        incoming: list[Any],
    ) -> None:
        now = _now()
        with metrics.DECIDING.time():
            batch = await self._decide(state, recall, incoming, now)
        records = batch.transaction(state.idempotency_window.restorable_from)
        self._on_step("decided")
        async with asyncio.timeout(COMMIT_TIMEOUT_S):
            with metrics.TRANSACTION.time():
                await producer.begin()
                self._on_step("begun")
                offsets = await producer.append(records, now)
                self._on_step("appended")
                await producer.commit()
        self._on_step("committed")
        if batch.spans:
            where = tracing.kafka_attributes(topics.COMMANDS.name, self.partition)
            tracing.end_batch("decide batch", batch.spans, now * 1_000_000, where)
        events = batch.fork.partitionsequence - state.checkpoint.partitionsequence
        metrics.committed(batch, events)
        self._lag.done(self._commands)
        log.debug(
            "batch committed",
            partition=self.partition,
            commands=batch.processed,
            events=events,
            next_offset=batch.fork.next_offset,
        )
        state.adopt(batch.fork, offsets.get(TopicPartition(topics.OUTCOMES.name, self.partition), 0), now)
        maintenance.committed(records, now)
        self._batch_limit = min(COMMANDS_PER_TRANSACTION, self._batch_limit * 2)
        self._consecutive_failures = batch.consecutive_failures
        self._on_step("adopted")

    async def _decide(self, state: PartitionState, recall: OutcomeRecall, incoming: list[Any], now: int) -> Batch:
        """A decided batch. While a schema is checked, other partitions of the process go on."""
        batch = Batch(self._config, Fork(state), now, consecutive_failures=self._consecutive_failures)
        batch.process_in_time(incoming)
        if batch.waits_for_outcome and batch.fork.next_offset <= incoming[0].offset:
            recalled = await recall.recall(state.idempotency_window, incoming)
            batch = Batch(self._config, Fork(state, recalled), now, consecutive_failures=self._consecutive_failures)
            batch.process_in_time(incoming)
        while (check := batch.needed_check) is not None:
            self._on_step("checking")
            await self._config.schemas.check(check.schema, check.data)
            batch.process_in_time(incoming[batch.processed :])
        return batch


def _now() -> int:
    return time.time_ns() // 1_000_000

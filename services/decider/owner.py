"""The owner of one partition: exactly once, by one transactional id and the log itself.

1. Start the partition's producer, which fences any earlier owner; then abort once, a transaction that touches every
   partition that an owner may write to (a broker killed and restarted can otherwise let the next commit of the same
   producer id commit leftovers); only then restore, from the log.
2. Per batch: decide on a fork; then begin, append all, await all, commit; only then adopt the fork.
3. On any failure or doubt: throw away the producer and the state, wait a little at random, and go back to 1.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from contracts import topics
from services.decider.batch import Batch, Deciding, TooManyFailures
from services.decider.fence import abort_leftovers, transactional_id
from services.decider.partition_state import Fork, PartitionState
from services.decider.restore import restore
from services.decider.upkeep import SEGMENT_MS, Upkeep
from services.infrastructure.transactions import TransactionalProducer

log = logging.getLogger(__name__)

COMMANDS_PER_TRANSACTION = 500
_START_TIMEOUT_S = 60
_COMMIT_TIMEOUT_S = 30
_CRY_EVERY_S = 60


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the broker is, and how to get in."""

    bootstrap_servers: str
    security: dict[str, Any]


def _ignore_step(_: str) -> None:
    pass


class PartitionOwner:
    """Runs until `stop`; `pause` and `resume` bridge a rebalance that gives the partition back to this process.

    ``on_step`` is told the steps of the algorithm by name, which is where the fault suite strikes: ``started``,
    ``fenced``, ``restored``, ``decided``, ``begun``, ``appended``, ``committed``, ``adopted``.
    """

    def __init__(
        self,
        connection: Connection,
        deciding: Deciding,
        on_step: Callable[[str], None] = _ignore_step,
        segment_ms: Mapping[str, int] = SEGMENT_MS,
    ) -> None:
        self.partition = deciding.partition
        self._connection = connection
        self._deciding = deciding
        self._on_step = on_step
        self._segment_ms = segment_ms
        self._state: PartitionState | None = None
        self._failures_in_a_row = 0
        self._at_once = COMMANDS_PER_TRANSACTION
        self._running = asyncio.Event()
        self._running.set()
        self._stopping = False
        self._told: type[BaseException] | None = None
        self.serving = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name=f"owner of partition {self.partition}")

    @property
    def next_offset(self) -> int | None:
        """The offset of the next command to decide; None while that is not known."""
        return None if self._state is None else self._state.checkpoint.next_offset

    def pause(self) -> None:
        self._running.clear()

    def resume(self) -> None:
        self._running.set()

    async def stop(self) -> None:
        """Lets the transaction under way end, then lets go of the partition."""
        self._stopping = True
        self._running.set()
        _, late = await asyncio.wait([self._task], timeout=5)
        for task in late:
            task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while not self._stopping:
            producer = TransactionalProducer(
                self._connection.bootstrap_servers, transactional_id(self.partition), self._connection.security
            )
            try:
                async with contextlib.AsyncExitStack() as stack:
                    stack.push_async_callback(producer.discard)
                    await self._own(producer, stack)
            except TooManyFailures as failure:
                self.serving.clear()
                await self._stay_stopped(failure)
            except (KafkaError, OSError, TimeoutError) as error:
                self._tell(error)
            except asyncio.CancelledError as error:
                # A library that ends its own tasks can let their CancelledError out to us, whom nobody cancelled.
                if self._task.cancelling():
                    raise
                self._tell(error)
            except Exception:
                log.exception("partition %d starts over", self.partition)
            finally:
                self.serving.clear()
                self._state = None
                # What a busy broker cannot take in time, again and again, it takes in smaller parts.
                self._at_once = max(1, self._at_once // 4)
            if not self._stopping:
                await asyncio.sleep(random.uniform(0.1, 1.0))  # noqa: S311 -- to fall out of step, not to hide

    def _tell(self, error: BaseException) -> None:
        """One line an outage, however often it starts over meanwhile."""
        told, self._told = self._told, type(error)
        log.log(
            logging.DEBUG if told is self._told else logging.WARNING,
            "partition %d starts over: %s",
            self.partition,
            type(error).__name__,
        )

    async def _stay_stopped(self, failure: TooManyFailures) -> None:
        """Loudly: one line could be overlooked."""
        while not self._stopping:
            log.critical("%s", failure)
            await asyncio.sleep(_CRY_EVERY_S)

    async def _own(self, producer: TransactionalProducer, stack: contextlib.AsyncExitStack) -> None:
        async with asyncio.timeout(_START_TIMEOUT_S):
            await producer.start()
            self._on_step("started")
            await self._abort_leftovers(producer)
        self._on_step("fenced")
        self._state = state = await restore(
            self._connection.bootstrap_servers, self._connection.security, self.partition
        )
        self._on_step("restored")
        upkeep = Upkeep(state, self.partition, self._segment_ms, self._deciding.keyring)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._connection.bootstrap_servers,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            fetch_max_wait_ms=500,
            max_partition_fetch_bytes=4 * 1024 * 1024,
            **self._connection.security,
        )
        stack.push_async_callback(consumer.stop)
        await consumer.start()
        commands = TopicPartition(topics.COMMANDS.name, self.partition)
        consumer.assign([commands])
        consumer.seek(commands, state.checkpoint.next_offset)
        self.serving.set()
        self._told = None
        while not self._stopping:
            await self._running.wait()
            fetched = await consumer.getmany(commands, timeout_ms=500, max_records=self._at_once)
            incoming = fetched.get(commands)
            if incoming and self._running.is_set():
                await self._transact(producer, state, upkeep, incoming)
            if incoming and state.checkpoint.next_offset <= incoming[-1].offset:
                consumer.seek(commands, state.checkpoint.next_offset)
            if self._running.is_set():
                await self._keep_up(producer, upkeep)

    async def _keep_up(self, producer: TransactionalProducer, upkeep: Upkeep) -> None:
        now = _now()
        if records := upkeep.due(now):
            async with asyncio.timeout(_COMMIT_TIMEOUT_S):
                await producer.begin()
                await producer.append(records, now)
                await producer.commit()
            upkeep.done(records, now)

    async def _abort_leftovers(self, producer: TransactionalProducer) -> None:
        await abort_leftovers(producer, self.partition, self._deciding.partitions, _now())

    async def _transact(
        self, producer: TransactionalProducer, state: PartitionState, upkeep: Upkeep, incoming: list[Any]
    ) -> None:
        now = _now()
        batch = Batch(self._deciding, Fork(state), now, failures_in_a_row=self._failures_in_a_row)
        batch.take_in_time(incoming)
        records = batch.transaction(state.memory.restorable_from)
        self._on_step("decided")
        async with asyncio.timeout(_COMMIT_TIMEOUT_S):
            await producer.begin()
            self._on_step("begun")
            offsets = await producer.append(records, now)
            self._on_step("appended")
            await producer.commit()
        self._on_step("committed")
        state.adopt(batch.fork, offsets.get(TopicPartition(topics.OUTCOMES.name, self.partition), 0))
        upkeep.committed(records, now)
        self._at_once = min(COMMANDS_PER_TRANSACTION, self._at_once * 2)
        self._failures_in_a_row = batch.failures_in_a_row
        self._on_step("adopted")


def _now() -> int:
    return time.time_ns() // 1_000_000

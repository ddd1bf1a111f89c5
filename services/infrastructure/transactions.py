"""A transactional producer on aiokafka whose request to commit is never sent twice.

An answer to EndTxn that is not a clear yes kills the producer with `CommitInDoubt`. Its successor's epoch fences a late
request, and the log shows what became of the transaction. Each transaction has an epoch of its own, where the broker
is of Kafka 4 or later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, NamedTuple

import aiokafka.errors as errors
from aiokafka import AIOKafkaProducer, TopicPartition

from contracts.kafka.client_shutdown import close_producer_unflushed
from services.infrastructure.library_internals.aiokafka import mark_closed
from services.infrastructure.library_internals.aiokafka_transactions import (
    add_to_transaction,
    send_end_of_transaction_once,
)

TRANSACTION_TIMEOUT_MS = 10_000
COMMIT_TIMEOUT_S = 2 * TRANSACTION_TIMEOUT_MS / 1000
"""From the begin of a transaction to its end. The broker aborts one after 10 s, and looks for those every 10 s, so
there is nothing left to wait for. aiokafka's sender can end without a word, and then nothing is ever answered."""
REQUEST_TIMEOUT_MS = 8_000
LARGEST_BATCH_BYTES = 900_000

_NO_HEADERS: list[tuple[str, bytes]] = []


class OutgoingRecord(NamedTuple):
    """A record to append to a topic's partition. Records share lists of headers, which must not be changed."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]] = _NO_HEADERS


class TransactionalProducer:
    """The producer of one transactional id. Starting it fences the id's earlier owner.

    After any error of `append`, `commit` or `abort`, `discard` it.
    """

    def __init__(self, bootstrap_servers: str, transactional_id: str, security: dict[str, Any]) -> None:
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap_servers,
            transactional_id=transactional_id,
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            max_batch_size=LARGEST_BATCH_BYTES,
            **security,
        )
        send_end_of_transaction_once(self._producer)

    async def start(self) -> None:
        """Returns when every earlier owner of the id is fenced, and what it left open is ended."""
        await self._producer.start()

    async def begin(self) -> None:
        await self._producer.begin_transaction()

    async def append(self, records: Iterable[OutgoingRecord], timestamp_ms: int) -> dict[TopicPartition, int]:
        """Appends all records within the open transaction, as whole batches, and waits for every one.

        Returns the offset of the first record of each partition. aiokafka commits a transaction over a failed send
        that nobody awaited, so all are awaited, and the first failure is raised.
        """
        by_partition = self._batches(records, timestamp_ms)
        rounds = max((len(batches) for batches in by_partition.values()), default=0)
        sends: list[tuple[TopicPartition, asyncio.Future[Any]]] = []
        try:
            for turn in range(rounds):
                for tp, batches in by_partition.items():
                    if turn < len(batches):
                        send = await self._producer.send_batch(batches[turn], tp.topic, partition=tp.partition)
                        sends.append((tp, send))
        except BaseException:
            # Its time may be over: what was sent before is not waited for any more.
            for _, send in sends:
                send.cancel()
            raise
        results = await asyncio.gather(*(send for _, send in sends), return_exceptions=True)
        first: dict[TopicPartition, int] = {}
        for (tp, _), result in zip(sends, results, strict=True):
            if isinstance(result, BaseException):
                raise result
            first.setdefault(tp, result.offset)
        return first

    def touch(self, partition: TopicPartition) -> None:
        """The end of the open transaction writes its marker to the partition, even if no record is appended there."""
        add_to_transaction(self._producer, partition)

    def _batches(self, records: Iterable[OutgoingRecord], timestamp_ms: int) -> dict[TopicPartition, list[Any]]:
        """The records of each partition, in order, as whole batches."""
        found: dict[tuple[str, int], list[Any]] = {}
        for topic, partition, key, value, headers in records:
            batches = found.get((topic, partition))
            if batches is None:
                batches = found[topic, partition] = [self._producer.create_batch()]
            if batches[-1].append(timestamp=timestamp_ms, key=key, value=value, headers=headers) is None:
                batches.append(self._producer.create_batch())
                if batches[-1].append(timestamp=timestamp_ms, key=key, value=value, headers=headers) is None:
                    raise errors.MessageSizeTooLargeError(f"a record for {topic} does not fit an empty batch")
        return {TopicPartition(*tp): batches for tp, batches in found.items()}

    async def commit(self) -> None:
        """Raises `CommitInDoubt` unless the broker confirms the commit."""
        await self._producer.commit_transaction()

    async def abort(self) -> None:
        await self._producer.abort_transaction()

    async def discard(self) -> None:
        """Closes the producer at once: nothing is flushed or retried."""
        mark_closed(self._producer)
        await close_producer_unflushed(self._producer, REQUEST_TIMEOUT_MS / 1000)

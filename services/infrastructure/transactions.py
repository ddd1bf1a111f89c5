"""A transactional producer on aiokafka whose request to commit is never sent twice.

aiokafka repeats EndTxn silently, in the same epoch, after a lost connection or a time-out; a first one that arrives
late then ends half of the next transaction. Here whatever is no clear yes kills the producer: `CommitInDoubt`. Its
successor's epoch fences the late request, and the log tells what became of the transaction.

This relies on internals of the pinned aiokafka; ``tests/integration/test_transactions.py`` fails when they change.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any, NamedTuple

import aiokafka.errors as errors
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.producer import sender as aiokafka_sender

from contracts.letting_go import drop_producer

log = logging.getLogger(__name__)

TRANSACTION_TIMEOUT_MS = 10_000
REQUEST_TIMEOUT_MS = 8_000
LARGEST_BATCH_BYTES = 900_000

# aiokafka waits 20 ms between the transactions of one id, which bounds a partition to 79 transactions a second; the
# broker needs one or two.
aiokafka_sender.BACKOFF_OVERRIDE = 0.001


class CommitInDoubt(errors.ProducerFenced):  # type: ignore[misc]
    """The broker may or may not have ended the transaction; only the log knows.

    A ProducerFenced to aiokafka's sender, which ends quietly on it and fails all that waits.
    """


class _EndTxnOnce(aiokafka_sender.EndTxnHandler):  # type: ignore[misc]
    async def do(self, node_id: int) -> bool:
        try:
            response = await self._sender.client.send(node_id, self.create_request(), group=self.group)
        except errors.KafkaError as error:
            raise CommitInDoubt(f"the broker did not answer the request to end the transaction: {error!r}") from error
        error_type = errors.for_code(response.error_code)
        if error_type is errors.NoError:
            self._sender._txn_manager.complete_transaction()
            return True
        if error_type is errors.InvalidProducerEpoch:
            raise errors.ProducerFenced
        raise CommitInDoubt(f"the broker answered the request to end the transaction with {error_type.__name__}")


class _SenderThatEndsOnce(aiokafka_sender.Sender):  # type: ignore[misc]
    async def _do_txn_commit(self, commit_result: object) -> None:
        await self._message_accumulator.flush_for_commit()
        if self._txn_manager.is_empty_transaction():
            self._txn_manager.complete_transaction()
            return
        node_id = await self._find_coordinator(
            aiokafka_sender.CoordinationType.TRANSACTION, self._txn_manager.transactional_id
        )
        await _EndTxnOnce(self, commit_result).do(node_id)


_NO_HEADERS: list[tuple[str, bytes]] = []


class OutgoingRecord(NamedTuple):
    """A record to append; ``partition`` is of ``topic``. Records share lists of headers: nobody changes one."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]] = _NO_HEADERS


class TransactionalProducer:
    """One transactional id. Starting it fences whoever had the id before.

    After any error of `append` or `end` it must be thrown away with `discard`.
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
        old = self._producer._sender
        self._producer._sender = _SenderThatEndsOnce(
            old.client,
            acks=old._acks,
            txn_manager=old._txn_manager,
            message_accumulator=old._message_accumulator,
            retry_backoff_ms=old._retry_backoff * 1000,
            request_timeout_ms=old._request_timeout_ms,
        )

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
                for home, batches in by_partition.items():
                    if turn < len(batches):
                        send = await self._producer.send_batch(batches[turn], home.topic, partition=home.partition)
                        sends.append((home, send))
        finally:
            results = await asyncio.gather(*(send for _, send in sends), return_exceptions=True)
        first: dict[TopicPartition, int] = {}
        for (home, _), result in zip(sends, results, strict=True):
            if isinstance(result, BaseException):
                raise result
            first.setdefault(home, result.offset)
        return first

    def _batches(self, records: Iterable[OutgoingRecord], timestamp_ms: int) -> dict[TopicPartition, list[Any]]:
        """The records as whole batches, of each partition in order."""
        found: dict[tuple[str, int], list[Any]] = {}
        for topic, partition, key, value, headers in records:
            batches = found.get((topic, partition))
            if batches is None:
                batches = found[topic, partition] = [self._producer.create_batch()]
            if batches[-1].append(timestamp=timestamp_ms, key=key, value=value, headers=headers) is None:
                batches.append(self._producer.create_batch())
                if batches[-1].append(timestamp=timestamp_ms, key=key, value=value, headers=headers) is None:
                    raise errors.MessageSizeTooLargeError(f"a record for {topic} does not fit an empty batch")
        return {TopicPartition(*home): batches for home, batches in found.items()}

    async def commit(self) -> None:
        """Raises `CommitInDoubt` where the broker gave no clear yes."""
        await self._producer.commit_transaction()

    async def abort(self) -> None:
        await self._producer.abort_transaction()

    async def discard(self) -> None:
        """Lets go at once: nothing is flushed, nothing is retried."""
        self._producer._closed = True
        await drop_producer(self._producer, REQUEST_TIMEOUT_MS / 1000)

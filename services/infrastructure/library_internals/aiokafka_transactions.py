"""How a producer of ours ends a transaction: once, and in an epoch of its own. Read in aiokafka 0.14.0.

aiokafka repeats EndTxn silently, in the same epoch, after a lost connection or a time-out. A first request that arrives
late then ends half of the next transaction. Ours is sent once. And from version 5 of the request on (Kafka 4), the
broker raises the producer's epoch with each transaction that it ends: a request that somebody else doubles or repeats
is refused in the next one.
"""

from __future__ import annotations

from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition, errors
from aiokafka.producer import sender as aiokafka_sender
from aiokafka.producer.transaction_manager import PidAndEpoch
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.transaction import EndTxnRequest_v0
from aiokafka.protocol.types import Boolean, CompactString, Int16, Int32, Int64, Schema, TaggedFields


class CommitInDoubt(errors.ProducerFenced):  # type: ignore[misc]
    """The broker may or may not have ended the transaction; only the log knows.

    It is a ProducerFenced, on which aiokafka's sender ends quietly and fails every pending future.
    """


class _EndTxnResponse(Response):  # type: ignore[misc]
    API_KEY = 26
    API_VERSION = 5
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("tags", TaggedFields),
    )


class _EndTxnRequest(RequestStruct):  # type: ignore[misc]
    """Version 5; aiokafka knows 0."""

    FLEXIBLE_VERSION = True
    API_KEY = 26
    API_VERSION = 5
    RESPONSE_TYPE = _EndTxnResponse
    SCHEMA = Schema(
        ("transactional_id", CompactString("utf-8")),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("transaction_result", Boolean),
        ("tags", TaggedFields),
    )


class _EndTxn(Request[EndTxnRequest_v0 | _EndTxnRequest]):  # type: ignore[misc]
    """The newest version that the broker knows."""

    API_KEY = 26

    def __init__(self, *fields: Any) -> None:
        self._fields = fields

    def build(self, request_struct_class: Any) -> Any:
        no_tags: tuple[dict[int, bytes], ...] = ({},) if request_struct_class is _EndTxnRequest else ()
        return request_struct_class(*self._fields, *no_tags)


class _EndTxnOnce(aiokafka_sender.EndTxnHandler):  # type: ignore[misc]
    async def do(self, node_id: int) -> bool:
        manager = self._sender._txn_manager
        fields = (manager.transactional_id, manager.producer_id, manager.producer_epoch, bool(self._commit_result))
        try:
            response = await self._sender.client.send(node_id, _EndTxn(*fields), group=self.group)
        except errors.KafkaError as error:
            raise CommitInDoubt(f"the broker did not answer the request to end the transaction: {error!r}") from error
        error_type = errors.for_code(response.error_code)
        if error_type is errors.NoError:
            if isinstance(response, _EndTxnResponse):
                # The next transaction's epoch, in which batches are numbered from 0 again; before the epochs run out,
                # a new producer id.
                manager._pid_and_epoch = PidAndEpoch(response.producer_id, response.producer_epoch)
                manager._sequence_numbers.clear()
            manager.complete_transaction()
            return True
        if error_type is errors.InvalidProducerEpoch:
            raise errors.ProducerFenced
        raise CommitInDoubt(f"the broker answered the request to end the transaction with {error_type.__name__}")


class _SenderEndingOnce(aiokafka_sender.Sender):  # type: ignore[misc]
    async def _do_txn_commit(self, commit_result: object) -> None:
        await self._message_accumulator.flush_for_commit()
        if self._txn_manager.is_empty_transaction():
            self._txn_manager.complete_transaction()
            return
        node_id = await self._find_coordinator(
            aiokafka_sender.CoordinationType.TRANSACTION, self._txn_manager.transactional_id
        )
        await _EndTxnOnce(self, commit_result).do(node_id)


def send_end_of_transaction_once(producer: AIOKafkaProducer) -> None:
    """Replaces the sender of a producer that is not started: its commit is sent once or raises `CommitInDoubt`."""
    old = producer._sender
    producer._sender = _SenderEndingOnce(
        old.client,
        acks=old._acks,
        txn_manager=old._txn_manager,
        message_accumulator=old._message_accumulator,
        retry_backoff_ms=old._retry_backoff * 1000,
        request_timeout_ms=old._request_timeout_ms,
    )


def add_to_transaction(producer: AIOKafkaProducer, partition: TopicPartition) -> None:
    """Makes the partition part of the open transaction without a record: it gets a marker alone when that ends."""
    producer._txn_manager.maybe_add_partition_to_txn(partition)

"""An idempotent producer that recovers from refused batches.

aiokafka assigns sequence numbers to batches before it sends them. A batch that the broker refuses permanently (too
large, not authorized) leaves a gap, and the broker refuses every later batch of that partition as out of order. So a
new producer replaces this one after a refusal, and sends the batches again that were refused only because of the gap.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import aiokafka.errors as errors
from aiokafka import AIOKafkaProducer

from ..envelope import CONTENT_TYPE
from ..topics import LARGEST_RECORD_BYTES
from .client_shutdown import close_client
from .log import log

_BATCH_BYTES = 256 * 1024
"""Large enough that senders rarely wait for room in a batch: waiting senders are woken one at a time."""
_SEQUENCE_ERRORS = (
    errors.OutOfOrderSequenceNumber,
    errors.UnknownProducerId,
    errors.InvalidProducerEpoch,
    errors.InvalidProducerIdMapping,
    errors.ProducerFenced,
)
"""Errors of the producer's state, not of the record."""


class IdempotentProducer:
    """Records of one partition are appended in the order of the calls."""

    def __init__(self, options: dict[str, Any], largest_record: int = LARGEST_RECORD_BYTES) -> None:
        self._options, self._largest_record = options, largest_record
        self._producer: Any = self._new_producer()
        self._partition_locks: dict[int, asyncio.Lock] = {}
        self._replacing = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False

    def _new_producer(self) -> Any:
        return AIOKafkaProducer(
            enable_idempotence=True,
            max_request_size=self._largest_record,
            max_batch_size=_BATCH_BYTES,
            **self._options,
        )

    async def start(self) -> None:
        await self._producer.start()

    async def partitions_of(self, topic: str) -> int:
        return len(await self._producer.partitions_for(topic))

    async def append(self, topic: str, partition: int, key: bytes, value: bytes | None) -> None:
        """Returns once the broker has the record. Raises KafkaError where it never will."""
        while True:
            producer, sent = self._producer, None
            try:
                async with self._partition_locks.setdefault(partition, asyncio.Lock()):
                    sent = await producer.send(topic, value, key=key, partition=partition, headers=[CONTENT_TYPE])
                await sent
            except errors.KafkaError as error:
                if self._closed:
                    raise
                if producer is self._producer:
                    sequence_error = isinstance(error, _SEQUENCE_ERRORS) or type(error) is errors.KafkaError
                    if sent is not None or sequence_error:
                        await self._replace(producer)
                    if not sequence_error:
                        raise
                log.warning("a command is sent again by a new producer: %s", type(error).__name__)
            else:
                return

    async def append_all(self, records: Sequence[tuple[str, int, bytes, bytes | None]]) -> None:
        """As `append` of each in turn, with all in flight at once. Stops at the first exception."""
        producer, sends = self._producer, []
        with contextlib.suppress(errors.KafkaError):  # `append` below handles it
            for topic, partition, key, value in records:
                async with self._partition_locks.setdefault(partition, asyncio.Lock()):
                    sent = await producer.send(topic, value, key=key, partition=partition, headers=[CONTENT_TYPE])
                sends.append(sent)
        results = await asyncio.gather(*sends, return_exceptions=True)
        for number, record in enumerate(records):
            if number >= len(results) or isinstance(results[number], BaseException):
                await self.append(*record)

    async def _replace(self, producer: Any) -> None:
        async with self._replacing:
            if producer is not self._producer:
                return
            fresh = self._new_producer()
            try:
                await fresh.start()
            except BaseException:
                await close_client(fresh)
                raise
            self._producer = fresh
        closing = asyncio.create_task(close_client(producer))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Waits for records in flight, but only seconds for an unavailable broker."""
        self._closed = True
        await asyncio.gather(close_client(self._producer), *self._closing)

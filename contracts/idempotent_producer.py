"""An idempotent producer that mends itself.

aiokafka numbers the batches of a partition before it sends them. A batch that the broker refuses for good (too large,
not allowed) leaves a hole in the numbers, and every later one on that partition is refused as out of order, for ever.
So after any refusal a fresh producer takes over; what was refused only for the hole is sent again by it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Any

import aiokafka.errors as errors
from aiokafka import AIOKafkaProducer

from .envelope import CONTENT_TYPE
from .letting_go import let_go

log = logging.getLogger(__name__)

LARGEST_RECORD = 2 * 1024 * 1024
_BATCH_BYTES = 256 * 1024
"""So large that hardly anybody waits for room: those who wait take turns, and fill the next batch one by one."""
_OUT_OF_STEP = (
    errors.OutOfOrderSequenceNumber,
    errors.UnknownProducerId,
    errors.InvalidProducerEpoch,
    errors.InvalidProducerIdMapping,
    errors.ProducerFenced,
)
"""What says nothing against the record, only against the producer."""


class IdempotentProducer:
    """What is appended to one partition is appended in the order of the calls."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._producer: Any = self._fresh()
        self._turns: dict[int, asyncio.Lock] = {}
        self._renewing = asyncio.Lock()
        self._letting_go: set[asyncio.Task[None]] = set()
        self._closed = False

    def _fresh(self) -> Any:
        return AIOKafkaProducer(
            enable_idempotence=True,
            max_request_size=LARGEST_RECORD,
            max_batch_size=_BATCH_BYTES,
            **self._options,
        )

    async def start(self) -> None:
        await self._producer.start()

    async def partitions_of(self, topic: str) -> int:
        return len(await self._producer.partitions_for(topic))

    async def append(self, topic: str, partition: int, key: bytes, value: bytes) -> None:
        """Returns once the broker has the record. Raises KafkaError where it never will."""
        while True:
            producer, sent = self._producer, None
            try:
                async with self._turns.setdefault(partition, asyncio.Lock()):
                    sent = await producer.send(topic, value, key=key, partition=partition, headers=[CONTENT_TYPE])
                await sent
            except errors.KafkaError as error:
                if self._closed:
                    raise
                if producer is self._producer:
                    out_of_step = isinstance(error, _OUT_OF_STEP) or type(error) is errors.KafkaError
                    if sent is not None or out_of_step:
                        await self._renew(producer)
                    if not out_of_step:
                        raise
                log.warning("a command is sent again by a fresh producer: %s", type(error).__name__)
            else:
                return

    async def append_all(self, records: Sequence[tuple[str, int, bytes, bytes]]) -> None:
        """As `append` of each in turn, with all of them in flight at once; the first that raises ends the rest."""
        producer, sends = self._producer, []
        with contextlib.suppress(errors.KafkaError):  # `append` meets it again, and knows what to do
            for topic, partition, key, value in records:
                async with self._turns.setdefault(partition, asyncio.Lock()):
                    sent = await producer.send(topic, value, key=key, partition=partition, headers=[CONTENT_TYPE])
                sends.append(sent)
        results = await asyncio.gather(*sends, return_exceptions=True)
        for number, record in enumerate(records):
            if number >= len(results) or isinstance(results[number], BaseException):
                await self.append(*record)

    async def _renew(self, producer: Any) -> None:
        async with self._renewing:
            if producer is not self._producer:
                return
            fresh = self._fresh()
            try:
                await fresh.start()
            except BaseException:
                await let_go(fresh)
                raise
            self._producer = fresh
        letting_go = asyncio.create_task(let_go(producer))
        self._letting_go.add(letting_go)
        letting_go.add_done_callback(self._letting_go.discard)

    async def close(self) -> None:
        """Waits for what is under way, but not for a broker that does not come back."""
        self._closed = True
        await asyncio.gather(let_go(self._producer), *self._letting_go)

"""The outbox relay: publishes to Kafka, at least once, what is in the outbox.

Successes are published from memory by the process that recorded them; their rows are reserved for it for some seconds.
Any process publishes all other rows, and those whose reservation is over. A record published twice has the same id.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from contracts import topics
from contracts.partitioner import partition_of
from services.infrastructure.dead_letter import DEAD_LETTER_BYTES_LIMIT
from services.infrastructure.postgres import OUTAGES, Pool
from services.invoker.outbox.records import OutboxRecord

log = structlog.stdlib.get_logger(__name__)

_BATCH = 500
_MAX_RESERVED_BATCHES = 50
"""In memory. While the broker is away, further rows are left to be found in the outbox."""
_BATCH_BYTES = 1_000_000
_POLL_S = 1.0

_SELECT = "SELECT * FROM invoker.outbox WHERE reserved_until <= now() ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED"
_DELETE = "DELETE FROM invoker.outbox WHERE id = ANY($1::bigint[])"


class OutboxRelay:
    """Runs until cancelled. A row is deleted once the broker has acknowledged its record."""

    def __init__(self, pool: Pool, bootstrap_servers: str, security: dict[str, Any]) -> None:
        self._pool = pool
        self._options = {
            "bootstrap_servers": bootstrap_servers,
            "enable_idempotence": True,
            "max_request_size": DEAD_LETTER_BYTES_LIMIT,
            "max_batch_size": _BATCH_BYTES,
            **security,
        }
        self._producer: Any = None
        self._partitions: dict[str, int] = {}
        self._reserved: deque[tuple[Sequence[int], Sequence[OutboxRecord]]] = deque()
        self._wake = asyncio.Event()
        self._poll_due = True

    def notify(self) -> None:
        """New rows may be in the outbox."""
        self._poll_due = True
        self._wake.set()

    def publish_reserved(self, ids: Sequence[int], records: Sequence[OutboxRecord]) -> None:
        """Publishes records whose rows, in any order, have these ids and are reserved for this process."""
        if ids and len(self._reserved) < _MAX_RESERVED_BATCHES:
            self._reserved.append((ids, records))
            self._wake.set()

    async def run(self) -> None:
        try:
            while True:
                self._wake.clear()
                try:
                    await self._connect()
                    more = await self._publish()
                except (KafkaError, *OUTAGES) as error:
                    log.warning("outbox relay waits", reason=type(error).__name__)
                    await self._disconnect()
                    self._reserved.clear()  # they are found in the outbox once their reservation is over
                    more = self._poll_due = True
                    await asyncio.sleep(1)
                if not more:
                    try:
                        async with asyncio.timeout(_POLL_S):
                            await self._wake.wait()
                    except TimeoutError:
                        self._poll_due = True
        finally:
            await self._disconnect()

    async def _connect(self) -> None:
        if self._producer is None:
            self._producer = AIOKafkaProducer(**self._options)
            await self._producer.start()
            for topic in (topics.INVOCATIONS.name, topics.COMMANDS.name, topics.DEAD_LETTERS.name):
                self._partitions[topic] = len(await self._producer.partitions_for(topic))

    async def _disconnect(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()

    async def _publish(self) -> bool:
        """Publishes a batch of each kind; returns whether there may be more."""
        ids: list[int] = []
        records: list[OutboxRecord] = []
        while self._reserved and len(ids) < _BATCH:
            reserved_ids, reserved_records = self._reserved.popleft()
            ids += reserved_ids
            records += reserved_records
        if ids:
            await self._send(records)
            await self._pool.execute(_DELETE, ids)
        if self._poll_due:
            self._poll_due = await self._publish_from_table() == _BATCH
        return self._poll_due or bool(self._reserved)

    async def _publish_from_table(self) -> int:
        async with self._pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(_SELECT, _BATCH)
            if rows:
                await self._send([_record_of(row) for row in rows])
                await connection.execute(_DELETE, [row["id"] for row in rows])
        return len(rows)

    async def _send(self, records: Sequence[OutboxRecord]) -> None:
        """Sends whole batches by topic and partition, at a third of the cost of sending record by record."""
        now = time.time_ns() // 1_000_000
        batches: dict[TopicPartition, Any] = {}
        sends: list[Any] = []
        for record in records:
            tp = self._topic_partition(record)
            headers = [(name, text.encode()) for name, text in record.headers]
            fields = {"key": record.key, "value": record.value, "timestamp": now, "headers": headers}
            batch = batches.get(tp)
            if batch is None or batch.append(**fields) is None:
                if batch is not None:
                    sends.append(await self._producer.send_batch(batch, tp.topic, partition=tp.partition))
                batch = batches[tp] = self._producer.create_batch()
                batch.append(**fields)
        for tp, batch in batches.items():
            sends.append(await self._producer.send_batch(batch, tp.topic, partition=tp.partition))
        await asyncio.gather(*sends)

    def _topic_partition(self, record: OutboxRecord) -> TopicPartition:
        count = self._partitions[record.topic]
        if record.partition is not None:
            return TopicPartition(record.topic, record.partition % count)
        return TopicPartition(record.topic, partition_of((record.key or b"").decode(), count))


def _record_of(row: Any) -> OutboxRecord:
    headers = tuple(zip(row["headers"][::2], row["headers"][1::2], strict=True))
    return OutboxRecord(row["topic"], row["key"], row["value"], row["partition"], headers)

"""The outbox: what is told is written in the transaction that makes it true, and is on Kafka at least once.

Who records that calls ended holds what it tells for some seconds, and publishes it from memory. All else in the outbox,
and what a process that died had held, is published by whoever finds it. Told twice, a record has the same id.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from contracts import topics
from contracts.partitioner import partition_of
from services.infrastructure.postgres import OUTAGES, Connection, Pool
from services.invoker.notifications import LARGEST_RECORD, Note

log = logging.getLogger(__name__)

HELD = timedelta(seconds=5)
_AT_ONCE = 500
_HOLDS = 50
"""While the broker is away no more is kept in memory: it lies in the outbox."""
_BATCH_BYTES = 1_000_000
_LOOK_EVERY_S = 1.0

_TELL = """
    INSERT INTO invoker.outbox (topic, key, value, partition, headers)
    SELECT topic, key, value, partition, string_to_array(headers, E'\\n')
    FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::int[], $5::text[])
        AS n(topic, key, value, partition, headers)
"""
_SOME = "SELECT * FROM invoker.outbox WHERE held_until <= now() ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED"
_TOLD = "DELETE FROM invoker.outbox WHERE id = ANY($1::bigint[])"


async def tell(connection: Connection, notes: Sequence[Note]) -> None:
    """Puts records into the outbox, within the transaction that makes them true."""
    if notes:
        await connection.execute(
            _TELL,
            [note.topic for note in notes],
            [note.key for note in notes],
            [note.value for note in notes],
            [note.partition for note in notes],
            ["\n".join(text for header in note.headers for text in header) for note in notes],
        )


class Publisher:
    """Publishes what is in the outbox; a row goes only once the broker has its record."""

    def __init__(self, pool: Pool, bootstrap_servers: str, security: dict[str, Any]) -> None:
        self._pool = pool
        self._options = {
            "bootstrap_servers": bootstrap_servers,
            "enable_idempotence": True,
            "max_request_size": LARGEST_RECORD,
            "max_batch_size": _BATCH_BYTES,
            **security,
        }
        self._producer: Any = None
        self._partitions: dict[str, int] = {}
        self._held: deque[tuple[Sequence[int], Sequence[Note]]] = deque()
        self._wake = asyncio.Event()
        self._looks = True

    def look(self) -> None:
        """There may be more in the outbox."""
        self._looks = True
        self._wake.set()

    def hold(self, rows: Sequence[int], notes: Sequence[Note]) -> None:
        """Publishes these records now, which lie in the outbox, held for `HELD`, under these numbers, in any order."""
        if rows and len(self._held) < _HOLDS:
            self._held.append((rows, notes))
            self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                self._wake.clear()
                try:
                    await self._connected()
                    more = await self._publish()
                except (KafkaError, *OUTAGES) as error:
                    log.warning("outcomes of invocations wait (%s)", type(error).__name__)
                    await self._disconnected()
                    self._held.clear()  # held by nobody they are found in the outbox
                    more = self._looks = True
                    await asyncio.sleep(1)
                if not more:
                    try:
                        async with asyncio.timeout(_LOOK_EVERY_S):
                            await self._wake.wait()
                    except TimeoutError:
                        self._looks = True
        finally:
            await self._disconnected()

    async def _connected(self) -> None:
        if self._producer is None:
            self._producer = AIOKafkaProducer(**self._options)
            await self._producer.start()
            for topic in (topics.INVOCATIONS.name, topics.COMMANDS.name, topics.DEAD_LETTERS.name):
                self._partitions[topic] = len(await self._producer.partitions_for(topic))

    async def _disconnected(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()

    async def _publish(self) -> bool:
        """Publishes some; returns whether there may be more."""
        rows: list[int] = []
        notes: list[Note] = []
        while self._held and len(rows) < _AT_ONCE:
            held, told = self._held.popleft()
            rows += held
            notes += told
        if rows:
            await self._send(notes)
            await self._pool.execute(_TOLD, rows)
        if self._looks:
            self._looks = await self._publish_found() == _AT_ONCE
        return self._looks or bool(self._held)

    async def _publish_found(self) -> int:
        async with self._pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(_SOME, _AT_ONCE)
            if rows:
                await self._send([_note(row) for row in rows])
                await connection.execute(_TOLD, [row["id"] for row in rows])
        return len(rows)

    async def _send(self, notes: Sequence[Note]) -> None:
        """Whole batches by topic and partition, which costs a third of sending record by record."""
        now = time.time_ns() // 1_000_000
        batches: dict[tuple[str, int], Any] = {}
        sends: list[Any] = []
        for note in notes:
            home = note.topic, self._home(note)
            headers = [(name, text.encode()) for name, text in note.headers]
            fields = {"key": note.key, "value": note.value, "timestamp": now, "headers": headers}
            batch = batches.get(home)
            if batch is None or batch.append(**fields) is None:
                if batch is not None:
                    sends.append(await self._producer.send_batch(batch, home[0], partition=home[1]))
                batch = batches[home] = self._producer.create_batch()
                batch.append(**fields)
        for home, batch in batches.items():
            sends.append(await self._producer.send_batch(batch, home[0], partition=home[1]))
        await asyncio.gather(*sends)

    def _home(self, note: Note) -> int:
        count = self._partitions[note.topic]
        if note.partition is not None:
            return note.partition % count
        return partition_of((note.key or b"").decode(), count)


def _note(row: Any) -> Note:
    headers = tuple(zip(row["headers"][::2], row["headers"][1::2], strict=True))
    return Note(row["topic"], row["key"], row["value"], row["partition"], headers)

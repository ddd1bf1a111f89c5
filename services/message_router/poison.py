"""What becomes of records and messages whose handling raises: a dead letter, an answer where one is due, a count."""

from __future__ import annotations

from collections import Counter
from typing import Any

from services.infrastructure.postgres import Connection
from services.message_router.counters import add_counters
from services.message_router.notices import dead_letter_record
from services.message_router.outbox import OutboxRecord, add_to_outbox, lock_partitions


async def set_aside_record(
    connection: Connection, record: Any, reason: str, refusal: OutboxRecord | None = None
) -> None:
    """Passes a record of Kafka: a dead letter without its value, and the refusal."""
    letter = dead_letter_record(record, reason)
    records = [letter] if refusal is None else [letter, refusal]
    numbers = await lock_partitions(connection, {one.partition for one in records})
    await add_to_outbox(connection, numbers, records)
    await count_poison(connection, letter.partition, record.topic)


async def count_poison(connection: Connection, partition: int, kind: str) -> None:
    """The transaction must have locked the partition. ``kind`` is the record's topic, or the work that raised."""
    await add_counters(connection, Counter({(partition, "poison", kind): 1}))

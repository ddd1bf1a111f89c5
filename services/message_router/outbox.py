"""Records for Kafka, written and numbered in the transaction that makes them true.

The numbers of a partition have no gaps, and each published record bears its own: the tail of the topics tells how far
the outbox was published.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from services.infrastructure.postgres import Connection

_ENSURE = """
    INSERT INTO message_router.outbox_numbers (partition) SELECT unnest($1::int[]) ON CONFLICT DO NOTHING
"""
_LOCK = """
    SELECT partition, number FROM message_router.outbox_numbers WHERE partition = ANY($1::int[])
    ORDER BY partition FOR UPDATE
"""
_MOVE = """
    UPDATE message_router.outbox_numbers o SET number = n.number
    FROM unnest($1::int[], $2::bigint[]) AS n(partition, number) WHERE o.partition = n.partition
"""


class OutboxRecord(NamedTuple):
    """``partition`` is the home partition of the channel, here and on the topic."""

    partition: int
    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, str], ...]


async def lock_partitions(connection: Connection, partitions: Collection[int]) -> dict[int, int]:
    """Locks the partitions in a fixed order until the transaction ends, and returns their last numbers.

    Whoever changes messages of a partition holds its lock, so that changes happen one after another in all processes.
    """
    known = await connection.fetch(_LOCK, list(partitions))
    if len(known) < len(partitions):
        await connection.execute(_ENSURE, sorted(partitions))
        known = await connection.fetch(_LOCK, list(partitions))
    return {row["partition"]: row["number"] for row in known}


async def add_to_outbox(connection: Connection, last: dict[int, int], records: Sequence[OutboxRecord]) -> None:
    """Numbers the records and stores them. The transaction must have locked their partitions."""
    if not records:
        return
    rows = []
    for partition, topic, key, value, headers in records:
        last[partition] += 1
        rows.append((partition, last[partition], topic, key, value, [text for header in headers for text in header]))
    await connection.copy_records_to_table(
        "outbox",
        schema_name="message_router",
        records=rows,
        columns=("partition", "number", "topic", "key", "value", "headers"),
    )
    moved = {record.partition for record in records}
    await connection.execute(_MOVE, list(moved), [last[partition] for partition in moved])

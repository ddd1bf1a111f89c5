"""Records for Kafka, written and numbered in the transaction that makes them true.

The numbers of a partition have no gaps, and each published record bears its own: the tail of the topics tells how far
the outbox was published.

A database may lose commits, and then not know what was published. So whoever locks a partition must find it verified:
its publisher compared it with the topics, and restored what it lacked.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from services.infrastructure.poison_messages import AnotherProcess
from services.infrastructure.postgres import Connection

IS_VERIFIED = """
    EXISTS (SELECT FROM message_router.verified_partitions v WHERE v.partition = o.partition
        AND v.server_started = pg_postmaster_start_time() AND v.xmin = v.written_by
        AND v.database = (SELECT oid FROM pg_database WHERE datname = current_database()))
"""
"""Of a row ``o`` of ``outbox_numbers``."""
ALL_VERIFIED = f"NOT EXISTS (SELECT FROM message_router.outbox_numbers o WHERE NOT {IS_VERIFIED})"
_LOCK = f"""
    SELECT partition, number FROM message_router.outbox_numbers o WHERE partition = ANY($1::int[]) AND {IS_VERIFIED}
    ORDER BY partition FOR UPDATE OF o
"""  # noqa: S608 -- constants of ours
_LOCK_UNVERIFIED = f"""
    SELECT FROM message_router.outbox_numbers o WHERE partition = $1 AND NOT {IS_VERIFIED} FOR UPDATE OF o
"""
_MOVE = """
    UPDATE message_router.outbox_numbers o SET number = n.number
    FROM unnest($1::int[], $2::bigint[]) AS n(partition, number) WHERE o.partition = n.partition
"""


class NotVerified(ConnectionError):
    """A partition's rows may lack what was published; its publisher sees to it. Until then, it is an outage."""


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
    Raises `NotVerified`.
    """
    known = await connection.fetch(_LOCK, list(partitions))
    if len(known) < len(partitions):
        raise NotVerified
    return {row["partition"]: row["number"] for row in known}


async def lock_unverified(connection: Connection, partition: int) -> None:
    """Locks a partition that is being restored. Raises `AnotherProcess` where it was verified meanwhile."""
    if not await connection.fetch(_LOCK_UNVERIFIED, partition):
        raise AnotherProcess


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

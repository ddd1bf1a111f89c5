"""Checkpoints: the position that a consumer reads next, per topic and partition.

A checkpoint moves by compare-and-set, in the transaction of the batch that it stands for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

from aiokafka import TopicPartition

from contracts.cursor import Position
from contracts.topics import EVENTS
from services.infrastructure.postgres import Connection, Pool

MIGRATIONS = Path(__file__).with_name("migrations")

_READ = "SELECT partition, next_offset, sequence FROM switchboard.checkpoints WHERE consumer = $1 AND topic = $2"
_BEGIN = """
    INSERT INTO switchboard.checkpoints (consumer, topic, partition, next_offset) VALUES ($1, $2, $3, 0)
    ON CONFLICT DO NOTHING
"""
_MOVE = """
    UPDATE switchboard.checkpoints SET next_offset = $5, sequence = $6, moved_at = now()
    WHERE consumer = $1 AND topic = $2 AND partition = $3 AND next_offset = $4
    RETURNING next_offset
"""
_DELETE = "DELETE FROM switchboard.checkpoints WHERE consumer = $1"
_RENAME = "UPDATE switchboard.checkpoints SET consumer = $2 WHERE consumer = $1"


class _Fetching(Protocol):
    @property
    def fetch(self) -> Callable[..., Awaitable[list[Any]]]: ...


async def next_offsets(connection: _Fetching, consumer: str, topic: str = EVENTS.name) -> dict[int, int]:
    """Partition of the topic -> the offset that the consumer applies next.

    A partition of which nothing is applied is missing. Inside a transaction, the checkpoints are of its snapshot.
    """
    rows = await connection.fetch(_READ, consumer, topic)
    return {row["partition"]: row["next_offset"] for row in rows}


async def next_positions(connection: _Fetching, consumer: str, topic: str) -> dict[int, Position]:
    """As `next_offsets`, with the ``partitionsequence`` of the last event applied; None on other topics."""
    rows = await connection.fetch(_READ, consumer, topic)
    return {row["partition"]: Position(row["next_offset"], row["sequence"]) for row in rows}


async def move_checkpoint(connection: Connection, consumer: str, tp: TopicPartition, at: int, to: Position) -> bool:
    """Moves the checkpoint in the caller's transaction. False where it does not stand at the offset ``at``.

    A missing checkpoint stands at 0, and only there is one begun: a database that lost its last commits may have lost
    a checkpoint's first one too, and a consumer that believes to be further on must not begin another.
    """
    key = (consumer, tp.topic, tp.partition)
    if at == 0:
        await connection.execute(_BEGIN, *key)
    return await connection.fetchval(_MOVE, *key, at, to.offset, to.sequence) is not None


async def delete_checkpoints(connection: Connection | Pool, consumer: str) -> None:
    await connection.execute(_DELETE, consumer)


async def rename_checkpoints(connection: Connection, consumer: str, to: str) -> None:
    """Makes them the checkpoints of the consumer ``to``, which has none."""
    await connection.execute(_RENAME, consumer, to)

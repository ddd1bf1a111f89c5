"""Records for Kafka, written to the outbox in the transaction that makes them true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from contracts.envelope import CONTENT_TYPE
from services.infrastructure.postgres import Connection

CONTENT_TYPE_HEADER = CONTENT_TYPE[0], CONTENT_TYPE[1].decode()
RESERVED_FOR = timedelta(seconds=5)
"""How long the rows of a success are reserved for the process that recorded it and publishes them from memory."""

_ADD = """
    INSERT INTO invoker.outbox (topic, key, value, partition, headers)
    SELECT topic, key, value, partition, string_to_array(headers, E'\\n')
    FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::int[], $5::text[])
        AS n(topic, key, value, partition, headers)
"""


@dataclass(frozen=True, slots=True)
class OutboxRecord:
    """A record to publish. Without ``partition`` its key decides on the partition."""

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int | None = None
    headers: tuple[tuple[str, str], ...] = (CONTENT_TYPE_HEADER,)


async def add_to_outbox(connection: Connection, records: Sequence[OutboxRecord]) -> None:
    """Writes records for any process to publish, within the transaction that makes them true."""
    if records:
        await connection.execute(
            _ADD,
            [record.topic for record in records],
            [record.key for record in records],
            [record.value for record in records],
            [record.partition for record in records],
            ["\n".join(text for header in record.headers for text in header) for record in records],
        )

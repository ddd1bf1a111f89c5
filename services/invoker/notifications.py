"""The records that tell how an invocation ended, and the outbox by which they reach Kafka at least once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from pydantic_core import to_json

from contracts import topics
from contracts.business_system import DisableBusinessSystem
from contracts.envelope import CONTENT_TYPE
from contracts.invocation import IntentInvoked, InvocationFailed
from contracts.message import rfc3339
from contracts.partitioner import partition_of
from services.infrastructure.postgres import OUTAGES, Connection, Pool

log = logging.getLogger(__name__)

SOURCE = "switchboard"
ACTOR = "switchboard-invoker"
CONTENT_TYPE_HEADER = CONTENT_TYPE[0], CONTENT_TYPE[1].decode()
_AT_ONCE = 500
_LARGEST_RECORD = 2 * 1024 * 1024
_LARGEST_PASSED_ON = _LARGEST_RECORD - 64 * 1024
_BATCH_BYTES = 1_000_000

_TELL = """
    INSERT INTO invoker.outbox (topic, key, value, partition, headers)
    SELECT topic, key, value, partition, string_to_array(headers, E'\\n')
    FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::int[], $5::text[])
        AS n(topic, key, value, partition, headers)
"""
_SOME = "SELECT * FROM invoker.outbox ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED"


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asked, and is told: a request, and how often it was replayed; ``about`` is what it is told."""

    account: str
    channel: str
    request_id: str
    correlation_id: str
    replays: int = 0
    about: str = "outcome"

    @classmethod
    def of(cls, row: Any) -> Asked:
        return cls(row["account"], row["channel"], row["request_id"], row["correlation_id"], row["replays"])

    def notification_id(self) -> str:
        """Unique per request and replay: the same outcome told twice has the same id."""
        again = f"/{self.replays}" if self.replays else ""
        return f"{self.account}/{self.channel}/{self.request_id}/{self.about}{again}"


@dataclass(frozen=True, slots=True)
class Note:
    """A record to publish; where no ``partition`` is given, its key says on which."""

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int | None = None
    headers: tuple[tuple[str, str], ...] = (CONTENT_TYPE_HEADER,)


def outcome_note(asked: Asked, outcome: IntentInvoked | InvocationFailed) -> Note:
    value = {
        "specversion": "1.0",
        "id": asked.notification_id(),
        "type": type(outcome).__name__,
        "source": SOURCE,
        "subject": asked.channel,
        "time": rfc3339(time.time_ns() // 1_000_000),
        "accountid": asked.account,
        "causationid": asked.request_id,
        "correlationid": asked.correlation_id,
        "datacontenttype": "application/json",
        "data": outcome,
    }
    return Note(topics.INVOCATIONS.name, asked.channel.encode(), to_json(value))


def reused_note(asked: Asked, digest: str, outcome: InvocationFailed) -> Note:
    """Told of a request whose id another one had before; ``digest`` tells the contents of several apart."""
    return outcome_note(replace(asked, about=f"reused/{digest}"), outcome)


def dead_letter(record: Any, reason: str) -> Note:
    """A record that nobody can be answered about, its key and bytes untouched.

    One so large that it and its headers are no record any more goes without its value, whose size a header tells then.
    """
    headers = {
        "reason": reason.replace("\n", " ").replace("\x00", " "),
        "topic": record.topic,
        "partition": str(record.partition),
        "offset": str(record.offset),
    }
    value = record.value
    if len(record.key or b"") + len(value or b"") > _LARGEST_PASSED_ON:
        headers["omitted"], value = str(len(value or b"")), None
    return Note(topics.DEAD_LETTERS.name, record.key, value, record.partition, tuple(headers.items()))


def disable_command_id(delivery: str, attempt: int) -> str:
    """Unique per attempt: recorded twice, it is one command."""
    return f"disable:{delivery}:{attempt}"


def disable_note(row: Any, reason: str) -> Note:
    """The command that disables a system which a call at it has shown to be gone."""
    command = DisableBusinessSystem(system=row["system"], reason=reason)
    value = {
        "specversion": "1.0",
        "id": disable_command_id(row["id"], row["attempts"]),
        "type": type(command).__name__,
        "source": SOURCE,
        "subject": row["channel"],
        "time": rfc3339(time.time_ns() // 1_000_000),
        "accountid": row["account"],
        "actor": ACTOR,
        "correlationid": row["correlation_id"],
        "datacontenttype": "application/json",
        "data": command.model_dump(),
    }
    return Note(topics.COMMANDS.name, row["channel"].encode(), to_json(value))


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


async def publish_outbox(pool: Pool, bootstrap_servers: str, security: dict[str, Any], wake: asyncio.Event) -> None:
    """Publishes what is in the outbox, for ever; a row goes only once the broker has its record."""
    producer: Any = None
    partitions: dict[str, int] = {}
    try:
        while True:
            try:
                if producer is None:
                    producer = AIOKafkaProducer(
                        bootstrap_servers=bootstrap_servers,
                        enable_idempotence=True,
                        max_request_size=_LARGEST_RECORD,
                        max_batch_size=_BATCH_BYTES,
                        **security,
                    )
                    await producer.start()
                    for topic in (topics.INVOCATIONS.name, topics.COMMANDS.name, topics.DEAD_LETTERS.name):
                        partitions[topic] = len(await producer.partitions_for(topic))
                sent = await _publish_some(pool, producer, partitions)
            except (KafkaError, *OUTAGES) as error:
                log.warning("outcomes of invocations wait (%s)", type(error).__name__)
                if producer is not None:
                    await producer.stop()
                producer, sent = None, 0
                await asyncio.sleep(1)
            if sent < _AT_ONCE:
                wake.clear()
                try:
                    async with asyncio.timeout(1):
                        await wake.wait()
                except TimeoutError:
                    pass
    finally:
        if producer is not None:
            await producer.stop()


async def _publish_some(pool: Pool, producer: Any, partitions: dict[str, int]) -> int:
    async with pool.acquire() as connection, connection.transaction():
        rows = await connection.fetch(_SOME, _AT_ONCE)
        if not rows:
            return 0
        await _send(producer, rows, partitions)
        await connection.execute("DELETE FROM invoker.outbox WHERE id = ANY($1::bigint[])", [row["id"] for row in rows])
    return len(rows)


async def _send(producer: Any, rows: Sequence[Any], partitions: dict[str, int]) -> None:
    """Whole batches by topic and partition, which costs a third of sending record by record."""
    now = time.time_ns() // 1_000_000
    batches: dict[tuple[str, int], Any] = {}
    sends: list[Any] = []
    for row in rows:
        home = row["topic"], _partition(row, partitions[row["topic"]])
        fields = {"key": row["key"], "value": row["value"], "timestamp": now, "headers": _headers(row["headers"])}
        batch = batches.get(home)
        if batch is None or batch.append(**fields) is None:
            if batch is not None:
                sends.append(await producer.send_batch(batch, home[0], partition=home[1]))
            batch = batches[home] = producer.create_batch()
            batch.append(**fields)
    for home, batch in batches.items():
        sends.append(await producer.send_batch(batch, home[0], partition=home[1]))
    await asyncio.gather(*sends)


def _headers(texts: list[str]) -> list[tuple[str, bytes]]:
    return [(name, text.encode()) for name, text in zip(texts[::2], texts[1::2], strict=True)]


def _partition(row: Any, count: int) -> int:
    return int(row["partition"]) % count if row["partition"] is not None else partition_of(row["key"].decode(), count)

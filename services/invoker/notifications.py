"""The records that tell how an invocation ended, and the outbox by which they reach Kafka at least once."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from contracts import topics
from contracts.envelope import CONTENT_TYPE, NotificationEnvelope
from contracts.invocation import IntentInvoked, InvocationFailed
from contracts.message import rfc3339
from contracts.partitioner import partition_of
from services.infrastructure.postgres import OUTAGES, Connection, Pool

log = logging.getLogger(__name__)

SOURCE = "switchboard"
_AT_ONCE = 500


def notification_id(account: str, channel: str, request_id: str) -> str:
    """Unique per request: the same outcome told twice has the same id."""
    return f"{account}/{channel}/{request_id}/outcome"


async def tell(
    connection: Connection,
    *,
    account: str,
    channel: str,
    request_id: str,
    correlation_id: str,
    outcome: IntentInvoked | InvocationFailed,
) -> None:
    """Puts the outcome into the outbox, within the transaction that makes it true."""
    envelope = NotificationEnvelope(
        id=notification_id(account, channel, request_id),
        type=type(outcome).__name__,
        source=SOURCE,
        subject=channel,
        time=rfc3339(time.time_ns() // 1_000_000),
        accountid=account,
        causationid=request_id,
        correlationid=correlation_id,
        data=outcome.model_dump(by_alias=True),
    )
    value = envelope.model_dump_json(exclude_none=False).encode()
    await connection.execute("INSERT INTO invoker.outbox (channel, value) VALUES ($1, $2)", channel, value)


async def publish_outbox(pool: Pool, bootstrap_servers: str, security: dict[str, Any], wake: asyncio.Event) -> None:
    """Publishes what is in the outbox, for ever; a row goes only once the broker has its record."""
    producer: Any = None
    try:
        while True:
            try:
                if producer is None:
                    producer = AIOKafkaProducer(
                        bootstrap_servers=bootstrap_servers, enable_idempotence=True, **security
                    )
                    await producer.start()
                    partitions = len(await producer.partitions_for(topics.INVOCATIONS.name))
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


async def _publish_some(pool: Pool, producer: Any, partitions: int) -> int:
    async with pool.acquire() as connection, connection.transaction():
        rows = await connection.fetch(
            "SELECT * FROM invoker.outbox ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED", _AT_ONCE
        )
        sends = [
            await producer.send(
                topics.INVOCATIONS.name,
                row["value"],
                key=row["channel"].encode(),
                partition=partition_of(row["channel"], partitions),
                headers=[CONTENT_TYPE],
            )
            for row in rows
        ]
        for send in sends:
            await send
        await connection.execute("DELETE FROM invoker.outbox WHERE id = ANY($1::bigint[])", [row["id"] for row in rows])
    return len(rows)

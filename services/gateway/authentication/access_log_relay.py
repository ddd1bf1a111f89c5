"""Publishes the access log to its topic, at least once, and deletes what is older than the topic keeps.

Every gateway runs a relay; one publishes at a time, so that records keep their order. Records that are published twice,
because a gateway died before it could note them, have the same id.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import structlog
from aiokafka.errors import KafkaError

from contracts import topics
from contracts.kafka.idempotent_producer import IdempotentProducer
from contracts.partitioner import partition_of
from services.infrastructure.postgres import OUTAGES, Pool

log = structlog.stdlib.get_logger(__name__)

NO_ACCOUNT = "~platform"
"""The key of a record without an account. No id begins with ``~``."""

_POLL_S = 1.0
_BATCH = 500
_SEND_TIMEOUT_S = 10.0
"""Less than `IDLE_TRANSACTION_S`."""
_CLEAN_EVERY_S = 3600.0
_RETENTION = timedelta(days=topics.ACCESS_LOG_DAYS)
_LOCK = 0x5B0A_2D02
"""The advisory lock of the one relay that publishes."""
_SELECT = """
    SELECT number, account, record FROM gateway.access_log WHERE NOT published ORDER BY number LIMIT $1
"""
_PUBLISHED = "UPDATE gateway.access_log SET published = true WHERE number = ANY($1::bigint[])"
_DELETE = "DELETE FROM gateway.access_log WHERE published AND time < now() - $1::interval"


class AccessLogRelay:
    """``pool`` is one that ``takes_over``: a relay that hangs must not keep the others from publishing.

    ``on_step`` is told ``sent``, before the records are noted as published.
    """

    def __init__(
        self,
        pool: Pool,
        bootstrap_servers: str,
        security: dict[str, Any],
        on_step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._pool, self._on_step = pool, on_step
        self._options = {"bootstrap_servers": bootstrap_servers, **security}
        self._producer: IdempotentProducer | None = None
        self._partitions = 0
        self._clean_at = 0.0

    async def run(self) -> None:
        """Publishes until cancelled; survives outages of the broker and the database."""
        try:
            while True:
                try:
                    more = await self.publish() == _BATCH
                    if time.monotonic() >= self._clean_at:
                        await self._pool.execute(_DELETE, _RETENTION)
                        self._clean_at = time.monotonic() + _CLEAN_EVERY_S
                except (KafkaError, *OUTAGES) as error:
                    log.warning("access log relay waits", reason=type(error).__name__)
                    more = False
                except Exception:
                    log.exception("access log relay starts over")
                    more = False
                if not more:
                    await asyncio.sleep(_POLL_S)
        finally:
            await self.close()

    async def publish(self) -> int:
        """Publishes a batch, and returns how many records it had: 0 while another relay publishes."""
        async with self._pool.acquire() as connection, connection.transaction():
            if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _LOCK):
                return 0
            rows = await connection.fetch(_SELECT, _BATCH)
            if rows:
                async with asyncio.timeout(_SEND_TIMEOUT_S):
                    await self._send(rows)
                self._on_step("sent")
                await connection.execute(_PUBLISHED, [row["number"] for row in rows])
            return len(rows)

    async def _send(self, rows: list[Any]) -> None:
        producer = await self._connected()
        keys = [row["account"] or NO_ACCOUNT for row in rows]
        await producer.append_all(
            [
                (topics.ACCESS_LOG.name, partition_of(key, self._partitions), key.encode(), row["record"].encode())
                for key, row in zip(keys, rows, strict=True)
            ]
        )

    async def _connected(self) -> IdempotentProducer:
        if self._producer is None:
            producer = IdempotentProducer(self._options)
            try:
                await producer.start()
                self._partitions = await producer.partitions_of(topics.ACCESS_LOG.name)
            except BaseException:
                await producer.close()
                raise
            self._producer = producer
        return self._producer

    async def close(self) -> None:
        if self._producer is not None:
            await self._producer.close()

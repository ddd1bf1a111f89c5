"""A database for tests of the invoker's ingest, and records of requests."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import asyncpg

from contracts.envelope import NotificationEnvelope
from services.infrastructure.postgres import Pool, migrate
from services.invoker.requests.ingest import Ingest
from services.invoker.service import MIGRATIONS
from services.schema_validation.validator import SchemaValidator


@dataclass(frozen=True, slots=True)
class Record:
    """As the consumer hands it over."""

    value: bytes | None
    key: bytes | None = b"ch"
    topic: str = "switchboard.invocation-requests"
    partition: int = 3
    offset: int = field(default_factory=count().__next__)
    timestamp: int = field(default_factory=lambda: time.time_ns() // 1_000_000)


@asynccontextmanager
async def ingest_pool(database_url: str) -> AsyncIterator[Pool]:
    """A database with channel ``ch``, its system ``crm`` and the intents ``ORDER`` and ``STRICT``."""
    async with asyncpg.create_pool(database_url, min_size=1, max_size=4) as pool:
        await migrate(pool, "invoker", MIGRATIONS)
        await pool.execute(
            "INSERT INTO invoker.channels VALUES ('ch', 'acme', false, 7);"
            "INSERT INTO invoker.business_systems (channel, system, api_request_url, signature_style, verified_at) "
            "VALUES ('ch', 'crm', 'https://crm.example/', 'standard-webhooks', now());"
            "INSERT INTO invoker.intents VALUES ('ch', 'crm', 'ORDER', '{\"a\": 1}', NULL);"
            "INSERT INTO invoker.intents VALUES ('ch', 'crm', 'STRICT', '{}', '{\"required\": [\"order\"]}')"
        )
        yield pool


def request(request_id: str, code: str = "ORDER", kind: str = "InvokeIntent", **more: Any) -> Record:
    envelope = {
        "specversion": "1.0",
        "id": request_id,
        "type": kind,
        "source": "tests",
        "subject": "ch",
        "accountid": "acme",
        "data": {"system": "crm", **({"code": code} if code else {}), **more.pop("data", {})},
        **more,
    }
    return Record(json.dumps(envelope).encode())


async def apply(pool: Pool, *records: Record, schemas: SchemaValidator | None = None) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await Ingest(schemas or SchemaValidator()).apply(connection, 3, records)


async def outcomes(pool: Pool) -> list[dict[str, Any]]:
    """The records for `switchboard.invocations` in the outbox."""
    rows = await pool.fetch("SELECT value FROM invoker.outbox WHERE topic = 'switchboard.invocations' ORDER BY id")
    records = [json.loads(row["value"]) for row in rows]
    assert all(
        NotificationEnvelope.model_validate(record).model_dump(exclude={"traceparent"}) == record for record in records
    )
    return records


async def rows(pool: Pool) -> dict[str, Any]:
    return {row["request_id"]: row for row in await pool.fetch("SELECT * FROM invoker.deliveries")}

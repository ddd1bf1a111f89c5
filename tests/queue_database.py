"""A database for tests of the invoker's queue, with deliveries, and results of calls."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from services.infrastructure.checkpoints import MIGRATIONS as CHECKPOINTS
from services.infrastructure.postgres import Pool, migrate
from services.invoker.limits import Limits
from services.invoker.queue.delivery import Delivery
from services.invoker.queue.scheduling import Wake, wake
from services.invoker.results.attempt import Attempt, DeliveryResult
from services.invoker.results.record_results import record_results
from services.invoker.results.retry_policy import (
    Answered,
    CallResult,
    Delivered,
    RetryAt,
)
from services.invoker.service import MIGRATIONS
from services.invoker.settings_replica.endpoint import Endpoint, LiveSignature

LIMITS = Limits(max_calls_per_system=4, failures_to_open=3, open_duration=30, lease_duration=30)
ENDPOINT = Endpoint(
    "acme", "https://crm.example/", "plain-token", disabled=False, signatures=(LiveSignature("k1", b"s" * 32),)
)
FAILED = Answered(500, b"")


@asynccontextmanager
async def queue_pool(database_url: str) -> AsyncIterator[Pool]:
    """A database in which account ``acme`` has channel ``ch`` at version 7."""
    async with asyncpg.create_pool(database_url, min_size=1, max_size=8) as pool:
        await migrate(pool, "checkpoints", CHECKPOINTS)
        await migrate(pool, "invoker", MIGRATIONS)
        await pool.execute("INSERT INTO invoker.channels VALUES ('ch', 'acme', false, 7)")
        yield pool


async def add(pool: Pool, system: str, count: int = 1, **columns: Any) -> list[str]:
    """Due deliveries of a system that is open and verified; returns their ids."""
    row = {
        "prefix": system,
        "state": "due",
        "expires_at": None,
        "test": False,
        "settings_version": None,
        "verified": True,
    } | columns
    ids = [f"{row['prefix']}-{number:06}" for number in range(count)]
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "INSERT INTO invoker.business_systems (channel, system, api_request_url, signature_style, verified_at) "
            "VALUES ('ch', $1, 'https://crm.example/', 'plain-token', $2) ON CONFLICT DO NOTHING",
            system,
            datetime.now(UTC) if row["verified"] else None,
        )
        await connection.execute(
            "INSERT INTO invoker.deliveries (id, account, channel, request_id, correlation_id, system, code, request, "
            "state, body, expires_at, test) "
            "SELECT id, 'acme', 'ch', id, id, $2, 'ORDER', $6::json, $3, $7, $4, $5 FROM unnest($1::text[]) AS id",
            ids,
            system,
            row["state"],
            row["expires_at"],
            row["test"],
            "{}" if row["settings_version"] is None else f'{{"settings_version": {row["settings_version"]}}}',
            None if row["state"] == "waiting" else b"{}",
        )
        await wake(connection, [Wake("ch", system, "test" if row["test"] else "first", datetime.now(UTC))])
    return ids


async def states(pool: Pool) -> dict[str, str]:
    return dict(await pool.fetch("SELECT id, state FROM invoker.deliveries"))


async def record_all(pool: Pool, *results: DeliveryResult) -> list[DeliveryResult]:
    """Returns those whose lease was still valid."""
    async with pool.acquire() as connection, connection.transaction():
        return (await record_results(connection, results, LIMITS)).results


def result_of(delivery: Delivery, call_result: CallResult, wait_s: float = 3600) -> DeliveryResult:
    """A success, or a failure to retry after ``wait_s``."""
    attempt = Attempt(ENDPOINT, datetime.now(UTC), 5, call_result)
    if isinstance(call_result, Answered) and call_result.succeeded:
        return DeliveryResult(delivery, Delivered(None), attempt)
    return DeliveryResult(delivery, RetryAt(datetime.now(UTC) + timedelta(seconds=wait_s)), attempt)

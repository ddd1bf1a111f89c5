"""Calls what is due: claim with a lease, call outside any transaction, then one fenced transaction for what came of it.

Due work is claimed by endpoint up to its free slots, so that a black hole costs only itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, assert_never
from uuid import uuid4

from contracts.invocation import IntentInvoked, InvocationFailed
from services.infrastructure.postgres import OUTAGES, Connection, Pool
from services.infrastructure.vault import KeyRing, VaultError
from services.invoker.call import CALLS_AT_ONCE_PER_HOST, TOTAL_TIMEOUT_S, Caller
from services.invoker.ingest import resolve
from services.invoker.knowledge import Endpoint, Gone, SecretsNotHereYet, endpoint_of
from services.invoker.notifications import tell
from services.invoker.outcomes import Answered, Delivered, Failed, GaveUp, RetryAt, what_next

log = logging.getLogger(__name__)

CALLS_AT_ONCE = 200
LEASE = timedelta(seconds=TOTAL_TIMEOUT_S * 2 + 10)
"""Longer than a call can last: a lease that ends means a worker that is gone."""

_CLAIM = """
    WITH due AS (
        SELECT id, row_number() OVER (PARTITION BY channel, system ORDER BY due_at) AS place, due_at
        FROM invoker.deliveries
        WHERE state = 'due' AND due_at <= now() AND (leased_until IS NULL OR leased_until < now())
          AND NOT (channel || '/' || system = ANY($1::text[]))
        ORDER BY due_at LIMIT 2000
    ), mine AS (
        SELECT d.id FROM invoker.deliveries d JOIN due USING (id)
        WHERE due.place <= $2 ORDER BY due.due_at LIMIT $3 FOR UPDATE OF d SKIP LOCKED
    )
    UPDATE invoker.deliveries d SET lease = $4, leased_until = now() + $5, attempts = attempts + 1
    FROM mine WHERE d.id = mine.id AND d.state = 'due' AND (d.leased_until IS NULL OR d.leased_until < now())
    RETURNING d.*
"""
_WAITING = "SELECT id FROM invoker.deliveries WHERE state = 'waiting' AND due_at <= now() ORDER BY due_at LIMIT 500"


class Dispatcher:
    """Runs until cancelled. ``wake`` is set when there may be new work, ``told`` when there are outcomes to publish.

    ``on_step`` is told the steps of a delivery by name: ``claimed``, ``called``, ``recorded``.
    """

    def __init__(
        self,
        pool: Pool,
        caller: Caller,
        keyring: KeyRing,
        waits: tuple[float, ...],
        told: asyncio.Event,
        on_step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._pool, self._caller, self._keyring, self._waits = pool, caller, keyring, waits
        self._told, self._on_step = told, on_step
        self._busy: Counter[str] = Counter()
        self._calls: set[asyncio.Task[None]] = set()
        self.wake = asyncio.Event()

    async def run(self) -> None:
        try:
            while True:
                claimed = 0
                try:
                    await self._resolve_waiting()
                    claimed = await self._claim()
                except OUTAGES as error:
                    log.warning("deliveries wait for the database (%s)", type(error).__name__)
                    await asyncio.sleep(1)
                if not claimed:
                    self.wake.clear()
                    try:
                        async with asyncio.timeout(0.25):
                            await self.wake.wait()
                    except TimeoutError:
                        pass
        finally:
            if self._calls:
                await asyncio.wait(self._calls, timeout=5)
            for call in self._calls:
                call.cancel()

    async def _resolve_waiting(self) -> None:
        for row in await self._pool.fetch(_WAITING):
            async with self._pool.acquire() as connection, connection.transaction():
                await resolve(connection, row["id"])
                self._told.set()

    async def _claim(self) -> int:
        free = CALLS_AT_ONCE - len(self._calls)
        if free <= 0:
            return 0
        full = [endpoint for endpoint, calls in self._busy.items() if calls >= CALLS_AT_ONCE_PER_HOST]
        rows = await self._pool.fetch(_CLAIM, full, CALLS_AT_ONCE_PER_HOST, free, uuid4(), LEASE)
        for row in rows:
            endpoint = f"{row['channel']}/{row['system']}"
            self._busy[endpoint] += 1
            call = asyncio.create_task(self._deliver(row))
            self._calls.add(call)
            call.add_done_callback(partial(self._done, endpoint))
        return len(rows)

    def _done(self, endpoint: str, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        self._busy[endpoint] -= 1
        if not self._busy[endpoint]:
            del self._busy[endpoint]
        self.wake.set()
        if not call.cancelled() and (error := call.exception()) is not None:
            log.error("a delivery waits for its lease to end (%s)", type(error).__name__)

    async def _deliver(self, row: Any) -> None:
        self._on_step("claimed")
        try:
            async with self._pool.acquire() as connection:
                endpoint = await endpoint_of(connection, self._keyring, row["channel"], row["system"])
        except SecretsNotHereYet:
            await self._put_back(row, "due", timedelta(milliseconds=500))
            return
        except VaultError as error:
            log.error("%s", error)
            await self._put_back(row, "due", timedelta(minutes=1))
            return
        if isinstance(endpoint, Gone):
            await self._record(row, None, None, None, GaveUp(endpoint.reason, endpoint.message))
            return
        if endpoint.disabled:
            await self._put_back(row, "parked", timedelta())
            return
        started, clock = datetime.now(UTC), time.monotonic()
        ended = await self._caller.call(endpoint, row["id"], row["body"])
        self._on_step("called")
        next_ = what_next(
            ended, attempt=row["attempts"], now=datetime.now(UTC), expires_at=row["expires_at"], waits=self._waits
        )
        await self._record(row, endpoint, (started, round((time.monotonic() - clock) * 1000)), ended, next_)
        self._on_step("recorded")

    async def _put_back(self, row: Any, state: str, wait: timedelta) -> None:
        """No call was made: the attempt does not count."""
        await self._pool.execute(
            "UPDATE invoker.deliveries SET state = $3, attempts = attempts - 1, due_at = now() + $4, "
            "lease = NULL, leased_until = NULL WHERE id = $1 AND lease = $2",
            row["id"],
            row["lease"],
            state,
            wait,
        )

    async def _record(
        self,
        row: Any,
        endpoint: Endpoint | None,
        took: tuple[datetime, int] | None,
        ended: Answered | Failed | None,
        next_: Delivered | RetryAt | GaveUp,
    ) -> None:
        """One transaction, fenced by the lease: a worker that comes back late changes nothing."""
        key_id = endpoint.signatures[0].key_id if endpoint is not None else None
        async with self._pool.acquire() as connection, connection.transaction():
            if not await _end(connection, row, key_id, next_):
                log.warning("delivery %s: another worker had it meanwhile", row["id"])
                return
            if endpoint is not None and took is not None and ended is not None:
                await _keep_attempt(connection, row, endpoint, took, ended)
            await _tell_end(connection, row, key_id, next_)
        self._told.set()


async def _end(connection: Connection, row: Any, key_id: str | None, next_: Delivered | RetryAt | GaveUp) -> bool:
    state, due, reason = "due", row["due_at"], None
    match next_:
        case Delivered():
            state = "delivered"
        case GaveUp():
            state, reason = "dead", next_.reason
        case RetryAt():
            due = next_.when
        case _:
            assert_never(next_)
    changed = await connection.fetchval(
        "UPDATE invoker.deliveries SET state = $3, due_at = $4, key_id = coalesce($5, key_id), reason = $6, "
        "lease = NULL, leased_until = NULL, ended_at = CASE WHEN $3 = 'due' THEN NULL ELSE now() END "
        "WHERE id = $1 AND lease = $2 RETURNING id",
        row["id"],
        row["lease"],
        state,
        due,
        key_id,
        reason,
    )
    return changed is not None


async def _keep_attempt(
    connection: Connection,
    row: Any,
    endpoint: Endpoint,
    took: tuple[datetime, int],
    ended: Answered | Failed,
) -> None:
    if isinstance(ended, Answered):
        came: tuple[Any, ...] = (ended.status, None, None, ended.answer)
    else:
        came = (None, ended.stage, ended.error, None)
    await connection.execute(
        "INSERT INTO invoker.attempts VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        row["id"],
        row["attempts"],
        *took,
        [signature.key_id for signature in endpoint.signatures],
        *came,
    )


async def _tell_end(
    connection: Connection,
    row: Any,
    key_id: str | None,
    next_: Delivered | RetryAt | GaveUp,
) -> None:
    about = {"system": row["system"], "code": row["code"], "delivery": row["id"], "key_id": key_id}
    outcome: IntentInvoked | InvocationFailed
    match next_:
        case Delivered():
            outcome = IntentInvoked(**about, attempts=row["attempts"], result=next_.result)
        case GaveUp():
            attempts = row["attempts"] if key_id else row["attempts"] - 1
            outcome = InvocationFailed(
                **about, status="dead", attempts=attempts, reason=next_.reason, message=next_.message
            )
        case RetryAt():
            return
        case _:
            assert_never(next_)
    await tell(
        connection,
        account=row["account"],
        channel=row["channel"],
        request_id=row["request_id"],
        correlation_id=row["correlation_id"],
        outcome=outcome,
    )

"""The bytes of deliveries that the database stores for each account: requests, bodies, and receivers' answers.

Each statement that stores or deletes some adds a row to `invoker.stored_bytes_changes`, so that no two transactions
wait for each other; the sweeper adds the rows up. Near the quota the oldest ended deliveries are deleted, as those of a
log are. What has not ended is never deleted: if it fills the quota, new requests are refused.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from datetime import timedelta

from contracts.ids import uuid7
from services.infrastructure.postgres import Connection, Pool

KEPT_S = 24 * 60 * 60
"""A request id is remembered for so long after its delivery ended, whatever is stored."""
_TRIM_ABOVE = 0.9
"""Of the quota: so that no request is refused while something can be deleted."""
_BATCH = 500

_ADD_UP = """
    WITH changes AS (
        DELETE FROM invoker.stored_bytes_changes WHERE ctid = ANY(ARRAY(
            SELECT ctid FROM invoker.stored_bytes_changes LIMIT 10000 FOR UPDATE SKIP LOCKED
        )) RETURNING account, bytes
    )
    INSERT INTO invoker.stored_bytes AS s
    SELECT account, sum(bytes) FROM changes GROUP BY account ORDER BY account
    ON CONFLICT (account) DO UPDATE SET bytes = s.bytes + excluded.bytes
"""
_SELECT_OVER = "SELECT account FROM invoker.stored_bytes WHERE bytes > $1 AND ($2::text[] IS NULL OR account = ANY($2))"
_DELETE_OLDEST = """
    WITH old AS (
        DELETE FROM invoker.deliveries WHERE id IN (
            SELECT id FROM invoker.deliveries WHERE account = $1 AND id < $2 AND ended_at < now() - $3::interval
            ORDER BY id LIMIT $4 FOR UPDATE SKIP LOCKED
        ) RETURNING id, account, stored_bytes
    ), attempts AS (
        DELETE FROM invoker.attempts a USING old WHERE a.delivery = old.id
    ), counted AS (
        INSERT INTO invoker.stored_bytes_changes SELECT account, -sum(stored_bytes) FROM old GROUP BY account
    )
    SELECT count(*) FROM old
"""


async def accounts_over(connection: Connection | Pool, accounts: Collection[str], quota: int) -> set[str]:
    """Those of the accounts whose deliveries take more bytes than the quota."""
    return {row["account"] for row in await connection.fetch(_SELECT_OVER, quota, list(accounts))}


async def add_up_stored_bytes(pool: Pool) -> None:
    await pool.execute(_ADD_UP)


async def delete_beyond_quota(pool: Pool, quota: int) -> int:
    """Deletes the oldest ended deliveries of accounts near their quota, a batch of each; returns how many."""
    # An id begins with its time, so younger deliveries need not be looked at.
    before = uuid7(time.time_ns() // 1_000_000 - KEPT_S * 1_000, bytes(10))
    deleted = 0
    for row in await pool.fetch(_SELECT_OVER, int(quota * _TRIM_ABOVE), None):
        deleted += await pool.fetchval(_DELETE_OLDEST, row["account"], before, timedelta(seconds=KEPT_S), _BATCH)
    return deleted

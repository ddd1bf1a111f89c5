"""How many test calls an account may ask for in a minute, over HTTP and on Kafka together.

The invoker counts every request when it reads it. The gateway counts one before it publishes it, so that it can say at
once that it is one too many; the invoker then finds it counted. The count is in the database, which all of them share.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from services.infrastructure.postgres import Connection, Pool
from services.invoker.queue.delivery import RequestKey

TEST_CALLS_PER_MINUTE = 60
_WINDOW = timedelta(minutes=1)

# One at a time counts for an account: together, each would find the last free place.
_LOCK = """
    SELECT pg_advisory_xact_lock(hashtextextended('invoker.test_calls ' || account, 0))
    FROM unnest($1::text[]) AS account
"""
_COUNT = """
    WITH requests AS (
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY
            AS r(account, channel, request_id, place)
    ), counted AS (
        SELECT account, channel, request_id FROM requests JOIN invoker.test_calls USING (account, channel, request_id)
    ), new AS (
        SELECT account, channel, request_id, row_number() OVER (PARTITION BY account ORDER BY place) AS number
        FROM requests WHERE (account, channel, request_id) NOT IN (SELECT * FROM counted)
    ), used AS (
        SELECT account, count(*) AS calls FROM invoker.test_calls
        WHERE account = ANY($1) AND requested_at > now() - $5::interval GROUP BY account
    ), added AS (
        INSERT INTO invoker.test_calls (account, channel, request_id, requested_at)
        SELECT account, channel, request_id, now() FROM new LEFT JOIN used USING (account)
        WHERE coalesce(calls, 0) + number <= $4 RETURNING account, channel, request_id
    )
    SELECT * FROM counted UNION ALL SELECT * FROM added
"""
_SELECT_WAIT = """
    SELECT extract(epoch FROM min(requested_at) + $2::interval - now()) FROM invoker.test_calls
    WHERE account = $1 AND requested_at > now() - $2::interval
"""


async def count_test_calls(connection: Connection, keys: Collection[RequestKey]) -> set[RequestKey]:
    """Counts test calls that are not counted yet, in a transaction. Returns those that may be made."""
    keys = list(dict.fromkeys(keys))
    if not keys:
        return set()
    await connection.execute(_LOCK, sorted({account for account, _, _ in keys}))
    columns = [list(column) for column in zip(*keys, strict=True)]
    return {
        (row[0], row[1], row[2]) for row in await connection.fetch(_COUNT, *columns, TEST_CALLS_PER_MINUTE, _WINDOW)
    }


async def wait_of_test_call(pool: Pool, key: RequestKey) -> float:
    """Counts a test call. Returns 0, or if it is one too many, the seconds until the account may make one again."""
    async with pool.acquire() as connection, connection.transaction():
        if await count_test_calls(connection, [key]):
            return 0.0
        return max(1.0, float(await connection.fetchval(_SELECT_WAIT, key[0], _WINDOW) or 0.0))


async def forget_test_calls(pool: Pool) -> None:
    await pool.execute("DELETE FROM invoker.test_calls WHERE requested_at < now() - $1::interval", _WINDOW)

"""Successes are recorded many in one statement: most calls are some, and all of them would pay for each one more.

It does what `recording.py` does for all that can come of a call: the state, fenced by the lease; the attempt; which
signature was accepted; the circuit, which a success closes; the outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from contracts import topics
from services.infrastructure.postgres import Connection
from services.invoker.notifications import CONTENT_TYPE_HEADER
from services.invoker.outbox import HELD

_RECORD = """
    WITH r AS (
        SELECT * FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::int[], $6::timestamptz[], $7::int[],
            $8::text[], $9::int[], $10::bytea[], $11::text[], $12::text[], $13::bytea[])
            AS r(id, lease, channel, system, number, started_at, duration_ms, key_ids, status, answer, accepted, how,
                told)
    ), ended AS (
        UPDATE invoker.deliveries d SET state = 'delivered', reason = NULL, key_id = split_part(r.key_ids, ' ', 1),
            lease = NULL, leased_until = NULL, ended_at = now()
        FROM r WHERE d.id = r.id AND d.lease = r.lease RETURNING r.*
    ), tried AS (
        INSERT INTO invoker.attempts
            (delivery, number, started_at, duration_ms, key_ids, status, answer, accepted_key_id)
        SELECT id, number, started_at, duration_ms, string_to_array(key_ids, ' '), status, answer, accepted FROM ended
        ON CONFLICT DO NOTHING
    ), accepted AS (
        UPDATE invoker.signatures s SET accepted_at = now(), accepted_how = a.how, accepted_delivery = a.id
        FROM (
            SELECT DISTINCT ON (channel, system, accepted) * FROM ended WHERE accepted IS NOT NULL
        ) AS a
        WHERE s.channel = a.channel AND s.system = a.system AND s.key_id = a.accepted
            AND (s.accepted_at IS NULL OR s.accepted_how <> a.how OR s.accepted_at < now() - interval '1 minute')
    ), closed AS (
        DELETE FROM invoker.circuits c USING ended WHERE c.channel = ended.channel AND c.system = ended.system
    ), written AS (
        INSERT INTO invoker.outbox (topic, key, value, headers, held_until)
        SELECT $14, convert_to(channel, 'UTF8'), told, $15, now() + $16 FROM ended RETURNING id
    )
    SELECT (SELECT array_agg(id) FROM ended) AS held, (SELECT array_agg(id) FROM written) AS written
"""


class Success(NamedTuple):
    """``told`` is the value of its outcome's record."""

    id: str
    lease: UUID
    channel: str
    system: str
    number: int
    started_at: datetime
    duration_ms: int
    key_ids: str
    status: int
    answer: bytes
    accepted: str | None
    how: str | None
    told: bytes


async def record_successes(connection: Connection, successes: Sequence[Success]) -> tuple[set[str], list[int]]:
    """The ids of those that still held their lease, and the numbers of their outcomes in the outbox, where they are
    held for `HELD`."""
    headers: list[Any] = list(CONTENT_TYPE_HEADER)
    columns = (list(column) for column in zip(*successes, strict=True))
    [row] = await connection.fetch(_RECORD, *columns, topics.INVOCATIONS.name, headers, HELD)
    return set(row["held"] or ()), row["written"] or []

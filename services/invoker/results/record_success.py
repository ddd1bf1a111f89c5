"""Successes, recorded in one set-based statement: most calls succeed.

It does all that `recorder.py` does for any result: the delivery's state, fenced by the lease; the attempt; the accepted
signature; the circuit, which a success closes; the system, which it verifies; the outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from contracts import topics
from services.infrastructure.postgres import Connection
from services.invoker.outbox.records import CONTENT_TYPE_HEADER, RESERVED_FOR

_RECORD = """
    WITH r AS (
        SELECT * FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::int[], $6::timestamptz[], $7::int[],
            $8::text[], $9::int[], $10::bytea[], $11::text[], $12::text[], $13::bytea[], $14::text[])
            AS r(id, lease, channel, system, number, started_at, duration_ms, key_ids, status, answer, accepted, how,
                outcome, url)
    ), ended AS (
        UPDATE invoker.deliveries d SET state = 'delivered', reason = NULL, key_id = split_part(r.key_ids, ' ', 1),
            lease = NULL, leased_until = NULL, ended_at = now(),
            stored_bytes = d.stored_bytes + octet_length(r.answer)
        FROM r WHERE d.id = r.id AND d.lease = r.lease RETURNING r.*, d.account
    ), counted AS (
        INSERT INTO invoker.stored_bytes_changes
        SELECT account, sum(octet_length(answer)) FROM ended WHERE answer <> '' GROUP BY account
    ), attempted AS (
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
    ), verified AS (
        UPDATE invoker.business_systems s SET verified_at = now(), next_call_at = NULL FROM (
            SELECT s.channel, s.system FROM (SELECT DISTINCT channel, system, url FROM ended) AS e
            JOIN invoker.business_systems s
                ON s.channel = e.channel AND s.system = e.system AND s.api_request_url = e.url
            WHERE s.verified_at IS NULL FOR UPDATE OF s SKIP LOCKED
        ) AS v
        WHERE s.channel = v.channel AND s.system = v.system
    ), written AS (
        INSERT INTO invoker.outbox (topic, key, value, headers, reserved_until)
        SELECT $15, convert_to(channel, 'UTF8'), outcome, $16, now() + $17 FROM ended RETURNING id
    )
    SELECT (SELECT array_agg(id) FROM ended) AS recorded, (SELECT array_agg(id) FROM written) AS outbox_ids
"""


class Success(NamedTuple):
    """The statement's parameters for one delivery, in their order. ``outcome`` is the value of its record."""

    id: str
    lease: UUID | None
    channel: str
    system: str
    attempt_number: int
    started_at: datetime
    duration_ms: int
    key_ids: str
    status: int
    answer: bytes
    accepted_key_id: str | None
    accepted_how: str | None
    outcome: bytes
    url: str


async def record_successes(connection: Connection, successes: Sequence[Success]) -> tuple[set[str], list[int]]:
    """Returns the deliveries whose lease was still valid, and the ids of their outcomes in the outbox.

    The outbox rows are reserved for the caller, who publishes them.
    """
    headers: list[Any] = list(CONTENT_TYPE_HEADER)
    columns = (list(column) for column in zip(*successes, strict=True))
    [row] = await connection.fetch(_RECORD, *columns, topics.INVOCATIONS.name, headers, RESERVED_FOR)
    return set(row["recorded"] or ()), row["outbox_ids"] or []

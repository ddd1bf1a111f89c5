"""Listeners: developers' machines that fetch the calls made as tests of a channel, and send back what they answered.

Invokers and gateways meet in two tables, so a listener may be at any gateway. The invoker offers a call; every listener
of its channel fetches it from a gateway; the first answer within the call's time is its result. Nothing ever connects
to a listener.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any, Literal, NamedTuple

from services.infrastructure.postgres import Pool
from services.invoker.queue.delivery import Delivery

LISTENERS_PER_ACCOUNT = 10
"""At a time, at all gateways."""
LEASE_S = 45.0
"""A listener that is not heard of for so long is gone. Longer than the restart of a gateway takes."""
_RENEWAL_S = 10.0
"""For how long a lease is longer, so that it need not be renewed each time that is heard of the listener."""
CALLS_AT_ONCE = 20
"""That a listener fetches; it fetches others once it has answered some of these."""
_KEPT = timedelta(minutes=10)
"""How long an ended call stays, so that a listener that repeats its answer learns whether it counted."""

ListenerFailure = Literal["refused", "timeout", "broken"]
"""Why a receiver beside a listener gave no answer: no connection, no whole answer in time, or a broken connection."""

LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('invoker.listeners ' || $1, 0))"
# While a listener's lease is long, to go on costs one read: nothing is written, and nobody's lock is waited for.
_IS_LISTENING = """
    SELECT EXISTS (
        SELECT FROM invoker.listeners WHERE account = $1 AND channel = $2 AND listener = $3
            AND system IS NOT DISTINCT FROM $4 AND expires_at > now() + $5::interval
    )
"""
_LISTEN = """
    INSERT INTO invoker.listeners AS l (account, channel, listener, system, expires_at)
    SELECT $1, $2, $3, $4, now() + $5::interval WHERE $6 > (
        SELECT count(*) FROM invoker.listeners
        WHERE account = $1 AND expires_at > now() AND (channel, listener) <> ($2, $3)
    )
    ON CONFLICT (account, channel, listener) DO UPDATE SET system = excluded.system, expires_at = excluded.expires_at
    RETURNING true
"""
_LEAVE = "DELETE FROM invoker.listeners WHERE account = $1 AND channel = $2 AND listener = $3"
_SELECT_OPEN = """
    SELECT delivery, system, code, signature_style, body, traceparent,
        extract(epoch FROM deadline - clock_timestamp())::float8 AS remaining_s
    FROM invoker.listener_calls
    WHERE account = $1 AND channel = $2 AND ($3::text IS NULL OR system = $3) AND ended_at IS NULL
        AND deadline > clock_timestamp() AND delivery <> ALL($4::text[])
    ORDER BY delivery LIMIT $5
"""
_SELECT_OFFERED = """
    SELECT w.place, c.delivery FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY
        AS w(account, channel, system, place)
    JOIN invoker.listener_calls c ON c.account = w.account AND c.channel = w.channel
        AND (w.system IS NULL OR c.system = w.system)
    WHERE c.ended_at IS NULL AND c.deadline > clock_timestamp()
"""
_ANSWER = """
    UPDATE invoker.listener_calls
    SET ended_at = clock_timestamp(), listener = $4, status = $5, answer = $6, failure = $7
    WHERE account = $1 AND channel = $2 AND delivery = $3 AND ended_at IS NULL AND deadline > clock_timestamp()
    RETURNING true
"""
_SELECT_ANSWERED_BY = """
    SELECT listener FROM invoker.listener_calls WHERE account = $1 AND channel = $2 AND delivery = $3
"""
# A call whose invoker was lost is offered again, unless it was answered meanwhile: then that is its answer.
_OFFER = """
    INSERT INTO invoker.listener_calls AS c (
        delivery, account, channel, system, code, signature_style, body, traceparent, deadline)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, clock_timestamp() + $9::interval WHERE EXISTS (
        SELECT FROM invoker.listeners
        WHERE account = $2 AND channel = $3 AND (system IS NULL OR system = $4) AND expires_at > now()
    ) OR EXISTS (SELECT FROM invoker.listener_calls WHERE delivery = $1)
    ON CONFLICT (delivery) DO UPDATE SET
        deadline = CASE WHEN c.listener IS NULL THEN excluded.deadline ELSE c.deadline END,
        ended_at = CASE WHEN c.listener IS NULL THEN NULL ELSE c.ended_at END
    RETURNING true
"""
# In one statement with the answers' own condition: of an answer and the end of the time, one comes first.
_END_LATE = """
    UPDATE invoker.listener_calls SET ended_at = clock_timestamp()
    WHERE delivery = ANY($1::text[]) AND ended_at IS NULL AND deadline <= clock_timestamp()
"""
_SELECT_ENDED = """
    SELECT delivery, status, answer, failure FROM invoker.listener_calls
    WHERE delivery = ANY($1::text[]) AND ended_at IS NOT NULL
"""


class ListenerAnswer(NamedTuple):
    """A status with the bytes of the answer, or why there is none. All None: no listener answered in time."""

    status: int | None
    answer: bytes | None
    failure: ListenerFailure | None


async def listen(pool: Pool, account: str, channel: str, listener: str, system: str | None) -> bool:
    """Begins to listen, or goes on; False if the account has too many listeners. System None stands for all."""
    if await pool.fetchval(_IS_LISTENING, account, channel, listener, system, timedelta(seconds=LEASE_S)):
        return True
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(LOCK, account)  # together, each would find the last free place
        lease = timedelta(seconds=LEASE_S + _RENEWAL_S)
        most = LISTENERS_PER_ACCOUNT
        return bool(await connection.fetchval(_LISTEN, account, channel, listener, system, lease, most))


async def leave(pool: Pool, account: str, channel: str, listener: str) -> None:
    await pool.execute(_LEAVE, account, channel, listener)


async def open_calls(
    pool: Pool, account: str, channel: str, system: str | None, known: Collection[str]
) -> list[dict[str, Any]]:
    """The calls that wait for an answer, without those that are ``known``, the oldest first."""
    rows = await pool.fetch(_SELECT_OPEN, account, channel, system, list(known), CALLS_AT_ONCE)
    return [dict(row) | {"body": row["body"].decode()} for row in rows]


class CallsWanted(NamedTuple):
    """What a listener waits for: a call of the channel that is not known; of one system, or of all if it is None."""

    account: str
    channel: str
    system: str | None
    known: frozenset[str]


async def offered_among(pool: Pool, wanted: Sequence[CallsWanted]) -> dict[CallsWanted, str]:
    """Those of whom there is a call to fetch, with one call each."""
    rows = await pool.fetch(_SELECT_OFFERED, *map(list, list(zip(*wanted, strict=True))[:3]))
    pairs = ((wanted[row["place"] - 1], row["delivery"]) for row in rows)
    return {one: delivery for one, delivery in pairs if delivery not in one.known}


async def answer_call(
    pool: Pool, account: str, channel: str, delivery: str, listener: str, answer: ListenerAnswer
) -> Literal["counts", "unknown", "answered", "late"]:
    """Answers a call. The first answer counts; whoever gave it may repeat it."""
    if await pool.fetchval(_ANSWER, account, channel, delivery, listener, *answer):
        return "counts"
    row = await pool.fetchrow(_SELECT_ANSWERED_BY, account, channel, delivery)
    if row is None:
        return "unknown"
    if row["listener"] is None:
        return "late"
    return "counts" if row["listener"] == listener else "answered"


async def offer(pool: Pool, delivery: Delivery, style: str, traceparent: str | None, timeout_s: float) -> bool:
    """Offers a call to the listeners; False if nobody listens."""
    columns = (delivery.id, delivery.account, delivery.channel, delivery.system, delivery.code, style, delivery.body)
    return bool(await pool.fetchval(_OFFER, *columns, traceparent, timedelta(seconds=timeout_s)))


async def ended_calls(pool: Pool, deliveries: Collection[str]) -> dict[str, ListenerAnswer]:
    """Those of the calls that have ended, by their deliveries; ends those whose time is over."""
    await pool.execute(_END_LATE, list(deliveries))
    rows = await pool.fetch(_SELECT_ENDED, list(deliveries))
    return {row["delivery"]: ListenerAnswer(row["status"], row["answer"], row["failure"]) for row in rows}


async def forget_listeners(pool: Pool) -> None:
    """Deletes listeners that are gone, and calls that ended or were given up a while ago."""
    await pool.execute("DELETE FROM invoker.listeners WHERE expires_at < now()")
    await pool.execute("DELETE FROM invoker.listener_calls WHERE deadline < now() - $1::interval", _KEPT)

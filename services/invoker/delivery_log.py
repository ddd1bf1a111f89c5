"""The delivery log: deliveries and their attempts for the gateway and the command line, and their replay."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, get_args

from contracts.invocation import DeliveryState, InvokeIntent, MakeTestCall, TriggerIntent
from contracts.message import rfc3339
from services.infrastructure.postgres import Connection, Pool
from services.invoker.queue.delivery import RequestKey
from services.invoker.queue.scheduling import Wake, wake
from services.invoker.queue.storage import accounts_over
from services.invoker.requests.request import canonical_json, original_request
from services.invoker.requests.request_validation import CallRequest, NotServable, Servable, load_settings, validate
from services.schema_validation.validator import SchemaValidator

STATES: tuple[DeliveryState, ...] = get_args(DeliveryState)
REPLAYABLE: tuple[DeliveryState, ...] = ("delivered", "dead", "refused", "parked")
_COLUMNS = (
    *("id", "account", "channel", "request_id", "system", "code", "template"),
    *("state", "attempts", "key_id", "reason", "test", "to_listener", "replays", "replayed_by"),
)
_TIME_COLUMNS = ("created_at", "due_at", "expires_at", "ended_at")
_WITHOUT_BODIES = ", ".join((*_COLUMNS, *_TIME_COLUMNS))
_BATCH = 1_000

_SELECT_ATTEMPTS = """
    SELECT delivery, number, started_at, duration_ms, key_ids, accepted_key_id, status, stage, error,
        octet_length(answer) AS answer_bytes, CASE WHEN $2 THEN answer END AS answer
    FROM invoker.attempts WHERE delivery = ANY($1::text[]) ORDER BY delivery, number
"""
_SELECT_ENDED = """
    SELECT w.*, d.id FROM unnest($1::text[], $2::text[], $3::text[]) AS w(account, channel, request_id)
    CROSS JOIN LATERAL (  -- with a limit, so that each is found by the index, however many there are
        SELECT id FROM invoker.deliveries d WHERE ended_at IS NOT NULL
            AND d.account = w.account AND d.channel = w.channel AND d.request_id = w.request_id LIMIT 1
    ) AS d
"""
_SELECT_VERSIONS = """
    SELECT w.account, w.channel, c.version FROM unnest($1::text[], $2::text[]) AS w(account, channel)
    JOIN invoker.channels c ON c.channel = w.channel AND (w.account IS NULL OR c.account = w.account)
"""
_SELECT_HEALTH = """
    SELECT s.verified_at, coalesce(b.failures, 0) AS failures, b.failing_since, b.open_until
    FROM invoker.business_systems s JOIN invoker.channels c ON c.channel = s.channel
    LEFT JOIN invoker.circuits b ON b.channel = s.channel AND b.system = s.system
    WHERE s.channel = $1 AND s.system = $2 AND ($3::text IS NULL OR c.account = $3)
"""
_REPLAY = """
    WITH selected AS (SELECT id FROM invoker.deliveries WHERE {where} ORDER BY id LIMIT {limit} FOR UPDATE)
    UPDATE invoker.deliveries d SET
        state = CASE WHEN body IS NULL THEN 'waiting' ELSE 'due' END, due_at = now(), ended_at = NULL, reason = NULL,
        replays = replays + CASE WHEN ended_at IS NULL THEN 0 ELSE 1 END, replayed_by = {actor},
        uncounted = attempts, attempts_before_replay = attempts,
        log_end = NULL, expires_at = now() + (request ->> 'ttl_seconds')::int * interval '1 second'
    FROM selected WHERE d.id = selected.id RETURNING d.id, d.channel, d.system, d.lane, d.state
"""


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """None means any. ``since`` and ``until`` are about when the request came."""

    account: str | None = None
    channel: str | None = None
    system: str | None = None
    states: tuple[DeliveryState, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    id: str | None = None
    before: str | None = None
    """Only those with a smaller id: the next page of a list with the newest first."""

    reason: str | None = None
    ids: tuple[str, ...] = ()
    about: str | None = None
    """The id of a request, or the correlation id of several."""

    def where(self, first: int = 1) -> tuple[str, list[Any]]:
        """A condition whose parameters are numbered from ``first``, and their values."""
        terms: list[str] = []
        values: list[Any] = []
        for term, value in (
            ("account = {}", self.account),
            ("channel = {}", self.channel),
            ("system = {}", self.system),
            ("state = ANY({}::text[])", list(self.states) or None),
            ("created_at >= {}", self.since),
            ("created_at < {}", self.until),
            ("id = {}", self.id),
            ("id < {}", self.before),
            ("reason = {}", self.reason),
            ("id = ANY({}::text[])", list(self.ids) or None),
            ("(request_id = {0} OR (correlation_id = {0} AND correlation_id <> request_id))", self.about),
        ):
            if value is not None:
                terms.append(term.format(f"${first + len(values)}"))
                values.append(value)
        return " AND ".join(terms) or "true", values


async def find_by_request(pool: Pool, account: str, channel: str, request_id: str) -> dict[str, Any] | None:
    """The delivery of a request; None where the invoker has not read it yet, or refused it as invalid."""
    rows = await pool.fetch(
        "SELECT * FROM invoker.deliveries WHERE account = $1 AND channel = $2 AND request_id = $3",
        account,
        channel,
        request_id,
    )
    return next(iter(await _with_attempts(pool, rows, bodies=True)), None)


async def ended_among(pool: Pool, requests: Sequence[RequestKey]) -> dict[RequestKey, str]:
    """The ids of the deliveries that have ended, by the account, channel and id of their requests."""
    rows = await pool.fetch(_SELECT_ENDED, *map(list, zip(*requests, strict=True)))
    return {(row["account"], row["channel"], row["request_id"]): row["id"] for row in rows}


async def versions(pool: Pool, channels: Sequence[tuple[str | None, str]]) -> dict[tuple[str | None, str], int]:
    """The version by which the invoker knows each channel, of an account or of any; without those unknown to it."""
    rows = await pool.fetch(_SELECT_VERSIONS, *map(list, zip(*channels, strict=True)))
    return {(row["account"], row["channel"]): row["version"] for row in rows}


def _call(account: str, channel: str, request: InvokeIntent) -> CallRequest:
    return CallRequest(
        account, channel, request.system, request.code, request.template, request.data, request.settings_version
    )


async def dry_run(
    pool: Pool, account: str, channel: str, request: InvokeIntent, schemas: SchemaValidator
) -> dict[str, Any]:
    """What a request would lead to with the settings of now. Nothing changes, and nothing is called."""
    call = _call(account, channel, request)
    async with pool.acquire() as connection:
        [settings] = await load_settings(connection, [call])
    match await validate(call, settings, rfc3339(time.time_ns() // 1_000_000), schemas):
        case Servable(body, parked):
            return {"would": "wait" if parked else "call", "body": json.loads(body)}
        case NotServable(reason, message):
            return {"would": "refuse", "reason": reason, "message": message}


def is_same_request(delivery: Mapping[str, Any], request: InvokeIntent | MakeTestCall | TriggerIntent) -> bool:
    """Whether a delivery of this log has this request, not another one with the same id."""
    content = canonical_json(request.model_dump(exclude_unset=True))
    return (
        delivery["test"] == (not isinstance(request, InvokeIntent)) and canonical_json(delivery["request"]) == content
    )


async def newest_of_channel(pool: Pool, account: str | None, channel: str, limit: int) -> list[dict[str, Any]]:
    """The channel's newest deliveries first, without bodies."""
    where, values = DeliveryFilter(account=account, channel=channel).where()
    query = (
        f"SELECT {_WITHOUT_BODIES} FROM invoker.deliveries WHERE {where} "  # noqa: S608
        f"ORDER BY created_at DESC, id DESC LIMIT ${len(values) + 1}"
    )
    return await _with_attempts(pool, await pool.fetch(query, *values, limit), bodies=False)


async def list_deliveries(pool: Pool, selection: DeliveryFilter, limit: int) -> list[dict[str, Any]]:
    """The newest first, with every attempt, without bodies: neither the request nor the text of its answers."""
    where, values = selection.where()
    query = (
        f"SELECT {_WITHOUT_BODIES} FROM invoker.deliveries WHERE {where} "  # noqa: S608
        f"ORDER BY id DESC LIMIT ${len(values) + 1}"
    )
    return await _with_attempts(pool, await pool.fetch(query, *values, limit), bodies=False)


async def failures(pool: Pool, selection: DeliveryFilter) -> list[dict[str, Any]]:
    """How many of the selected deliveries are dead or were refused, by reason, the most first."""
    where, values = selection.where()
    query = (
        f"SELECT reason, state, count(*) AS deliveries FROM invoker.deliveries WHERE {where} "  # noqa: S608
        "AND state IN ('dead', 'refused') GROUP BY reason, state ORDER BY deliveries DESC, reason LIMIT 20"
    )
    return [dict(row) for row in await pool.fetch(query, *values)]


async def get_delivery(pool: Pool, account: str | None, delivery: str) -> dict[str, Any] | None:
    """One delivery with the redacted answers; None where the account has none of that id."""
    where, values = DeliveryFilter(account=account, id=delivery).where()
    rows = await pool.fetch(f"SELECT * FROM invoker.deliveries WHERE {where}", *values)  # noqa: S608
    return next(iter(await _with_attempts(pool, rows, bodies=True)), None)


async def channel_of(pool: Pool, delivery: str) -> str | None:
    """The channel of a delivery, whose ever it is."""
    channel: str | None = await pool.fetchval("SELECT channel FROM invoker.deliveries WHERE id = $1", delivery)
    return channel


async def replay(pool: Pool, selection: DeliveryFilter, actor: str, limit: int) -> list[str]:
    """Sends deliveries that ended or are parked again, with the same webhook-id; returns their ids.

    Test calls are left out. Attempts and the time to live start anew; a request that was refused is validated anew.
    """
    states = tuple(state for state in selection.states or REPLAYABLE if state in REPLAYABLE)
    if not states:
        return []
    where, values = replace(selection, states=states, before=None).where()
    after, most, by = (f"${len(values) + number}" for number in (1, 2, 3))
    # In the order of their ids, so that a delivery that ends again meanwhile is not replayed twice.
    query = _REPLAY.format(where=f"{where} AND NOT test AND id > {after}", limit=most, actor=by)
    replayed: list[str] = []
    while len(replayed) < limit:
        async with pool.acquire() as connection, connection.transaction():
            batch = min(_BATCH, limit - len(replayed))
            rows = await connection.fetch(query, *values, max(replayed, default=""), batch, actor)
            await _wake(connection, rows)
        replayed += [row["id"] for row in rows]
        if len(rows) < batch:
            break
    return replayed


async def _wake(connection: Connection, rows: Sequence[Any]) -> None:
    now = datetime.now(UTC)
    due = [row for row in rows if row["state"] == "due"]
    await wake(connection, [Wake(row["channel"], row["system"], row["lane"], now) for row in due])


async def is_over_quota(pool: Pool, account: str, quota: int) -> bool:
    """Whether the account's deliveries take more bytes, so that the invoker refuses new requests."""
    return bool(await accounts_over(pool, {account}, quota))


async def system_health(pool: Pool, account: str | None, channel: str, system: str) -> dict[str, Any] | None:
    """Whether the system is verified, and its circuit; None where the invoker does not know the system yet.

    ``verified_at``: its first 2xx to a signed call at its present URL. ``failures``: in a row, since ``failing_since``.
    Account None is the platform.
    """
    row = await pool.fetchrow(_SELECT_HEALTH, channel, system, account)
    if row is None:
        return None
    return {
        "verified_at": _time(row["verified_at"]),
        "failures": row["failures"],
        "failing_since": _time(row["failing_since"]),
        "circuit_open_until": _time(row["open_until"]),
    }


async def accepted_signatures(pool: Pool, account: str | None, channel: str, system: str) -> dict[str, dict[str, Any]]:
    """Of each signature that the receiver accepted, by key id: when last, in which delivery, and how that shows.

    Account None is the platform, which sees the signatures of every account.

    ``named``: its answer named the signature. ``alone``: it answered 2xx to a call with that signature only.
    """
    rows = await pool.fetch(
        "SELECT s.* FROM invoker.signatures s JOIN invoker.channels c ON c.channel = s.channel "
        "WHERE s.channel = $1 AND s.system = $2 AND s.accepted_at IS NOT NULL AND ($3::text IS NULL OR c.account = $3)",
        channel,
        system,
        account,
    )
    return {
        row["key_id"]: {
            "accepted_at": _time(row["accepted_at"]),
            "accepted_how": row["accepted_how"],
            "delivery": row["accepted_delivery"],
        }
        for row in rows
    }


async def _with_attempts(pool: Pool, rows: Sequence[Any], *, bodies: bool) -> list[dict[str, Any]]:
    if not rows:
        return []
    attempts: dict[str, list[dict[str, Any]]] = {row["id"]: [] for row in rows}
    for row in await pool.fetch(_SELECT_ATTEMPTS, list(attempts), bodies):
        attempt = {name: value for name, value in row.items() if name not in ("delivery", "answer")}
        attempt["started_at"] = _time(attempt["started_at"])
        if bodies:
            attempt["answer"] = None if row["answer"] is None else row["answer"].decode(errors="replace")
        attempts[row["delivery"]].append(attempt)
    return [
        {name: row[name] for name in _COLUMNS}
        | {name: _time(row[name]) for name in _TIME_COLUMNS}
        | ({"request": original_request(row["request"], row["body"])} if bodies else {})
        | {"attempt_log": attempts[row["id"]]}
        for row in rows
    ]


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

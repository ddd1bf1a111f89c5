"""The delivery log: what the gateway and the command line show of signed calls, and how they are sent again."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, get_args

from contracts.invocation import DeliveryState, InvokeIntent, MakeTestCall
from contracts.message import rfc3339
from services.infrastructure.postgres import Connection, Pool
from services.invoker import queue
from services.invoker.ingest import asked_of, canonical
from services.invoker.resolution import Lacking, Ready, Wanted, known_of, resolve

STATES: tuple[DeliveryState, ...] = get_args(DeliveryState)
REPLAYABLE: tuple[DeliveryState, ...] = ("delivered", "dead", "refused", "parked")
_SHOWN = (
    *("id", "account", "channel", "request_id", "system", "code", "template"),
    *("state", "attempts", "key_id", "reason", "test", "replays", "replayed_by"),
)
_TIMES = ("created_at", "due_at", "expires_at", "ended_at")
_AT_ONCE = 1_000

_ATTEMPTS = """
    SELECT delivery, number, started_at, duration_ms, key_ids, accepted_key_id, status, stage, error,
        octet_length(answer) AS answer_bytes, CASE WHEN $2 THEN answer END AS answer
    FROM invoker.attempts WHERE delivery = ANY($1::text[]) ORDER BY delivery, number
"""
_REPLAY = """
    WITH chosen AS (SELECT id FROM invoker.deliveries WHERE {where} ORDER BY id LIMIT {limit} FOR UPDATE)
    UPDATE invoker.deliveries d SET
        state = CASE WHEN body IS NULL THEN 'waiting' ELSE 'due' END, due_at = now(), ended_at = NULL, reason = NULL,
        replays = replays + CASE WHEN ended_at IS NULL THEN 0 ELSE 1 END, replayed_by = {actor},
        excused = attempts, before_replay = attempts,
        log_end = NULL, expires_at = now() + (request ->> 'ttl_seconds')::int * interval '1 second'
    FROM chosen WHERE d.id = chosen.id RETURNING d.id, d.channel, d.system, d.lane, d.state
"""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which deliveries are meant; None means any. ``since`` and ``until`` are about when the request came."""

    account: str | None = None
    channel: str | None = None
    system: str | None = None
    states: tuple[DeliveryState, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    id: str | None = None
    before: str | None = None
    """Only those with a smaller id: the next page, as the newest come first."""

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
        ):
            if value is not None:
                terms.append(term.format(f"${first + len(values)}"))
                values.append(value)
        return " AND ".join(terms) or "true", values


async def find(pool: Pool, account: str, channel: str, request_id: str) -> dict[str, Any] | None:
    """The delivery that a request became; None where the invoker has not seen it yet, or refused it unread."""
    rows = await pool.fetch(
        "SELECT * FROM invoker.deliveries WHERE account = $1 AND channel = $2 AND request_id = $3",
        account,
        channel,
        request_id,
    )
    return next(iter(await _shown(pool, rows, answers=True)), None)


async def judged(pool: Pool, account: str, channel: str, request: InvokeIntent) -> dict[str, Any]:
    """What would become of a request with the settings known now; nothing changes, and nobody is called."""
    about = account, channel, request.system, request.code, request.template, request.data, request.settings_version
    wanted = Wanted(*about)
    async with pool.acquire() as connection:
        [known] = await known_of(connection, [wanted])
    match resolve(wanted, known, rfc3339(time.time_ns() // 1_000_000)):
        case Ready(body, parked):
            return {"would": "wait" if parked else "call", "body": json.loads(body)}
        case Lacking(reason, message):
            return {"would": "refuse", "reason": reason, "message": message}


def asks_the_same(delivery: Mapping[str, Any], request: InvokeIntent | MakeTestCall) -> bool:
    """Whether a delivery, as it is shown, was made of such a request, or of another one with the same id."""
    content = canonical(request.model_dump(exclude_unset=True))
    return delivery["test"] == isinstance(request, MakeTestCall) and canonical(delivery["request"]) == content


async def of_channel(pool: Pool, channel: str, limit: int) -> list[dict[str, Any]]:
    """The channel's newest deliveries first."""
    newest = "SELECT * FROM invoker.deliveries WHERE channel = $1 ORDER BY created_at DESC, id DESC LIMIT $2"
    return await _shown(pool, await pool.fetch(newest, channel, limit), answers=False)


async def listed(pool: Pool, chosen: Chosen, limit: int) -> list[dict[str, Any]]:
    """The newest first, with every attempt, but without the answers' text."""
    where, values = chosen.where()
    query = f"SELECT * FROM invoker.deliveries WHERE {where} ORDER BY id DESC LIMIT ${len(values) + 1}"  # noqa: S608
    return await _shown(pool, await pool.fetch(query, *values, limit), answers=False)


async def shown(pool: Pool, account: str | None, delivery: str) -> dict[str, Any] | None:
    """One delivery, with what was answered, secrets blacked out; None where the account has none of that id."""
    where, values = Chosen(account=account, id=delivery).where()
    rows = await pool.fetch(f"SELECT * FROM invoker.deliveries WHERE {where}", *values)  # noqa: S608
    return next(iter(await _shown(pool, rows, answers=True)), None)


async def replay(pool: Pool, chosen: Chosen, actor: str, limit: int) -> list[str]:
    """Sends again, with the same webhook-id, what ended or is parked; returns the ids. Test calls are not repeated.

    Attempts count anew, and so does the time to live. A request that was refused is judged anew.
    """
    states = tuple(state for state in chosen.states or REPLAYABLE if state in REPLAYABLE)
    if not states:
        return []
    where, values = Chosen(
        chosen.account, chosen.channel, chosen.system, states, chosen.since, chosen.until, chosen.id
    ).where()
    after, most, who = (f"${len(values) + place}" for place in (1, 2, 3))
    # In the order of their ids, so that one that ends again meanwhile is not taken again.
    query = _REPLAY.format(where=f"{where} AND NOT test AND id > {after}", limit=most, actor=who)
    replayed: list[str] = []
    while len(replayed) < limit:
        async with pool.acquire() as connection, connection.transaction():
            some = min(_AT_ONCE, limit - len(replayed))
            rows = await connection.fetch(query, *values, max(replayed, default=""), some, actor)
            await _wake(connection, rows)
        replayed += [row["id"] for row in rows]
        if len(rows) < some:
            break
    return replayed


async def _wake(connection: Connection, rows: Sequence[Any]) -> None:
    now = datetime.now(UTC)
    due = [row for row in rows if row["state"] == "due"]
    await queue.wake(connection, [queue.Wake(row["channel"], row["system"], row["lane"], now) for row in due])


async def acceptances(pool: Pool, channel: str, system: str) -> dict[str, dict[str, Any]]:
    """By key id, what the receiver is known to have accepted last: when, in which delivery, and how that shows.

    ``named``: its answer named the signature. ``alone``: it answered 2xx to a call with that signature only.
    """
    rows = await pool.fetch(
        "SELECT * FROM invoker.signatures WHERE channel = $1 AND system = $2 AND accepted_at IS NOT NULL",
        channel,
        system,
    )
    return {
        row["key_id"]: {
            "accepted_at": _time(row["accepted_at"]),
            "accepted_how": row["accepted_how"],
            "delivery": row["accepted_delivery"],
        }
        for row in rows
    }


async def _shown(pool: Pool, rows: Sequence[Any], *, answers: bool) -> list[dict[str, Any]]:
    if not rows:
        return []
    attempts: dict[str, list[dict[str, Any]]] = {row["id"]: [] for row in rows}
    for row in await pool.fetch(_ATTEMPTS, list(attempts), answers):
        one = {name: value for name, value in row.items() if name not in ("delivery", "answer")}
        one["started_at"] = _time(one["started_at"])
        if answers:
            one["answer"] = None if row["answer"] is None else row["answer"].decode(errors="replace")
        attempts[row["delivery"]].append(one)
    return [
        {name: row[name] for name in _SHOWN}
        | {name: _time(row[name]) for name in _TIMES}
        | {"request": asked_of(row), "attempt_log": attempts[row["id"]]}
        for row in rows
    ]


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

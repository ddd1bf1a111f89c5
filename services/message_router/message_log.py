"""The message log: messages with their timelines, for the gateway and the command line. No recipient is in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from contracts.message import rfc3339
from contracts.message_routing import Category, MessageRouted, Route, Rule
from services.infrastructure.postgres import Connection, Pool

MessageState = Literal["waiting", "routed", "refused"]

_NOT_SHOWN = {"recipient_hash", "pool"}
"""The pool says how many units the platform has left, for all accounts."""

_LIST = """
    SELECT message, channel, account, state, category, country, requested_at, decided_at, reservation, fallback, seen,
        decision->>'route' AS route, decision->>'rule' AS rule, decision->>'sentence' AS sentence,
        refusal->>'reason' AS reason, refusal->>'sentence' AS refused_because
    FROM message_router.messages WHERE {where} ORDER BY requested_at DESC, message DESC LIMIT {limit}
"""
_BY_ID = "channel = $1 AND message = $2 AND ($3::text IS NULL OR account = $3)"
_GET = f"SELECT * FROM message_router.messages WHERE {_BY_ID}"  # noqa: S608 -- constants of ours
_STATUSES = f"""
    SELECT received_at, via, status, at, error FROM (
        SELECT received_at, via, status, at, error, channel, account, message FROM message_router.statuses
        UNION ALL
        SELECT received_at, via, status, at, error, channel, account, message FROM message_router.waiting_statuses
    ) AS s WHERE {_BY_ID} ORDER BY received_at
"""  # noqa: S608
_IS_KNOWN = """
    SELECT EXISTS (SELECT FROM message_router.messages WHERE channel = $1 AND account = $2 AND message = $3)
"""
_NOTICES = f"SELECT type, told_at, data FROM message_router.notices WHERE {_BY_ID} ORDER BY number"  # noqa: S608


@dataclass(frozen=True, slots=True)
class MessageFilter:
    """None means any. ``since`` and ``until`` are Unix milliseconds of the request, ``before`` a page's ``next``."""

    channel: str
    account: str | None = None
    state: MessageState | None = None
    route: Route | None = None
    rule: Rule | None = None
    category: Category | None = None
    country: str | None = None
    since: int | None = None
    until: int | None = None
    before: tuple[int, str] | None = None

    def where(self) -> tuple[str, list[Any]]:
        """A condition with parameters from $1, and their values."""
        terms: list[str] = []
        values: list[Any] = []
        for term, several in (
            ("channel = {}", (self.channel,)),
            ("account = {}", (self.account,)),
            ("state = {}", (self.state,)),
            ("decision->>'route' = {}", (self.route,)),
            ("decision->>'rule' = {}", (self.rule,)),
            ("category = {}", (self.category,)),
            ("country = {}", (self.country,)),
            ("requested_at >= {}", (self.since,)),
            ("requested_at < {}", (self.until,)),
            ("(requested_at, message) < ({}::bigint, {}::text)", self.before or (None,)),
        ):
            if None not in several:
                terms.append(term.format(*(f"${len(values) + number}" for number in range(1, len(several) + 1))))
                values += several
        return " AND ".join(terms), values


def parse_page(text: str) -> tuple[int, str]:
    """The position in a page's ``next``. Raises ValueError."""
    requested_at, _, message = text.partition("/")
    if not (requested_at.isascii() and requested_at.isdigit() and len(requested_at) < 19 and message):
        raise ValueError("it is no page's next")
    return int(requested_at), message


async def list_messages(pool: Pool, chosen: MessageFilter, limit: int) -> tuple[list[dict[str, Any]], str | None]:
    """A page of the channel's messages, newest first, and the ``next`` of a full page."""
    where, values = chosen.where()
    rows = await pool.fetch(_LIST.format(where=where, limit=f"${len(values) + 1}"), *values, limit)
    following = f"{rows[-1]['requested_at']}/{rows[-1]['message']}" if len(rows) == limit else None
    return [_listed(row) for row in rows], following


def _listed(row: Any) -> dict[str, Any]:
    shown = {
        name: row[name]
        for name in ("message", "channel", "account", "state", "category", "country", "route", "rule", "reason")
    }
    return shown | {
        "sentence": row["sentence"] or row["refused_because"],
        "requested_at": rfc3339(row["requested_at"]),
        "decided_at": _time(row["decided_at"]),
        "reservation": row["reservation"],
        "sms_fallback": row["fallback"],
        "statuses": row["seen"],
    }


async def get_message(pool: Pool, account: str | None, channel: str, message: str) -> dict[str, Any] | None:
    """A message with its timeline; None where the account has none of that id."""
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        row = await connection.fetchrow(_GET, channel, message, account)
        if row is None:
            return None
        return await _with_timeline(connection, row)


async def is_known(pool: Pool, account: str, channel: str, message: str) -> bool:
    """Whether there is the message, decided or not."""
    return bool(await pool.fetchval(_IS_KNOWN, channel, account, message))


async def _with_timeline(connection: Connection, row: Any) -> dict[str, Any]:
    key = row["channel"], row["message"], row["account"]
    statuses = await connection.fetch(_STATUSES, *key)
    notices = [(one["type"], one["told_at"], json.loads(one["data"])) for one in await connection.fetch(_NOTICES, *key)]
    charges = [data for kind, _, data in notices if kind == "MessageCharged"]
    timeline = [*_decision_entries(row), *_status_entries(statuses), *_notice_entries(notices)]
    timeline.sort(key=lambda entry: entry[:2])
    return {
        **{name: row[name] for name in ("message", "channel", "account", "state", "category", "country")},
        "requested_at": rfc3339(row["requested_at"]),
        "statuses": row["seen"],
        "decision": shown_decision(json.loads(row["decision"])) if row["decision"] else None,
        "refusal": json.loads(row["refusal"]) if row["refusal"] else None,
        "reservation": _reservation(row),
        "sms_fallback": _fallback(row),
        "charge": charges[0] if charges else None,
        "timeline": [{"at": rfc3339(at), **shown} for at, _, shown in timeline],
    }


def shown_decision(routed: Mapping[str, Any]) -> dict[str, Any]:
    """A decision's data as it is shown: without the recipient's hash, and without the platform's pools."""
    return {name: value for name, value in routed.items() if name in MessageRouted.model_fields.keys() - _NOT_SHOWN}


_Entry = tuple[int, int, dict[str, Any]]
"""When, the order within one millisecond, and what is shown."""


def _decision_entries(row: Any) -> Iterator[_Entry]:
    yield row["requested_at"], 0, {"type": "RouteMessage"}
    if row["decision"]:
        routed = json.loads(row["decision"])
        yield row["decided_at"], 1, {"type": "MessageRouted", **{n: routed[n] for n in ("route", "rule", "sentence")}}
    if row["refusal"]:
        refused = json.loads(row["refusal"])
        shown = {"type": "RoutingRefused", "reason": refused["reason"], "sentence": refused["sentence"]}
        yield row["requested_at"], 1, shown


def _status_entries(rows: list[Any]) -> Iterator[_Entry]:
    for row in rows:
        shown = {"type": "ReportStatus", "status": row["status"], "via": row["via"], "reported_for": row["at"]}
        yield row["received_at"], 2, shown | ({"error": row["error"]} if row["error"] else {})


def _notice_entries(notices: list[tuple[str, int, dict[str, Any]]]) -> Iterator[_Entry]:
    for kind, at, data in notices:
        yield at, 3, {"type": kind, **{name: value for name, value in data.items() if name != "message"}}


def _reservation(row: Any) -> dict[str, Any] | None:
    if row["reservation"] == "none":
        return None
    return {
        "state": row["reservation"],
        "resource": row["resource"],
        "reserved_until": _time(row["reserved_until"]),
        "posted_late": row["posted_late"],
    }


def _fallback(row: Any) -> dict[str, Any] | None:
    if row["fallback_on"] is None:
        return None
    return {
        "state": row["fallback"],
        "on": row["fallback_on"],
        "wait_seconds": row["fallback_wait_seconds"],
        "fires_at": _time(row["fires_at"]),
    }


def _time(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else rfc3339(milliseconds)

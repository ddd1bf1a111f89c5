"""Whether a request can be served with the settings known now. Pure, but for one query that reads what is known."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json

from contracts.invocation import TEST_CALL
from contracts.message import rfc3339
from services.domain.json_schema import SchemaUnusable, problem_of_data
from services.infrastructure.postgres import Connection

_KNOWN = """
    SELECT c.channel IS NOT NULL AS known, coalesce(c.retired, false) AS retired, coalesce(c.version, 0) AS version,
        s.system IS NOT NULL AS open, coalesce(s.disabled, false) AS disabled, i.default_data, i.schema,
        b.channel IS NULL AND l.channel IS NULL AS clear
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY
        AS w(account, channel, system, code, place)
    LEFT JOIN invoker.channels c ON c.channel = w.channel AND c.account = w.account
    LEFT JOIN invoker.business_systems s ON s.channel = c.channel AND s.system = w.system
    LEFT JOIN invoker.intents i ON i.channel = c.channel AND i.system = w.system AND i.code = w.code
    LEFT JOIN invoker.circuits b ON b.channel = c.channel AND b.system = w.system
    LEFT JOIN invoker.lines l
        ON l.channel = c.channel AND l.system = w.system AND l.lane = 'first' AND l.wake_at <= now()
    ORDER BY w.place
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request for a call; ``data`` None: the intent's default data."""

    account: str
    channel: str
    system: str
    code: str
    template: str | None
    data: dict[str, Any] | None
    settings_version: int | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of what a request names. Another account's channel looks like an unknown one."""

    known: bool
    retired: bool
    version: int
    open: bool
    disabled: bool
    default_data: str | None
    """JSON text, and so is the schema."""
    schema: str | None = None
    clear: bool = False
    """No failure is held against the system, and nothing of its line waits for a first attempt."""


@dataclass(frozen=True, slots=True)
class Ready:
    """``body`` is frozen now, and sent as it is at every attempt."""

    body: bytes
    parked: bool


@dataclass(frozen=True, slots=True)
class Lacking:
    """What is missing, as far as is known: a stable name and a sentence. ``behind``: a version that is yet to come."""

    reason: str
    message: str
    behind: bool = False


UNJUDGED = Lacking("Unjudged", "It has not been judged yet.")
_JUDGING_AT_MOST_S = 0.5
_TURN_S = 0.02


async def resolve_all(wanted: Sequence[Wanted], known: Sequence[Known]) -> list[Ready | Lacking]:
    """What `resolve` says of each. Schemas may be laborious: other work gets its turns in between, and what comes after
    half a second of judging is left `UNJUDGED`, to be looked at again."""
    turn, spent = time.monotonic(), 0.0
    timestamp = rfc3339(time.time_ns() // 1_000_000)
    found: list[Ready | Lacking] = []
    for one, what in zip(wanted, known, strict=True):
        found.append(resolve(one, what, timestamp) if spent < _JUDGING_AT_MOST_S else UNJUDGED)
        took = time.monotonic() - turn
        if took > _TURN_S:
            spent += took
            await asyncio.sleep(0)
            turn = time.monotonic()
    return found


async def known_of(connection: Connection, wanted: Sequence[Wanted]) -> list[Known]:
    """What is known of each; what several name is looked up once."""
    abouts = [(one.account, one.channel, one.system, one.code) for one in wanted]
    keys = list(dict.fromkeys(abouts))
    rows = await connection.fetch(_KNOWN, *(list(column) for column in zip(*keys, strict=True)))
    known = {key: Known(**row) for key, row in zip(keys, rows, strict=True)}
    return [known[about] for about in abouts]


def resolve(wanted: Wanted, known: Known, timestamp: str) -> Ready | Lacking:
    """``timestamp`` is the body's time."""
    lacking = _lacking(wanted, known)
    if lacking is not None:
        return lacking
    test = wanted.code == TEST_CALL
    body = {  # a `WebhookBody`
        "type": wanted.code,
        "timestamp": timestamp,
        "account": wanted.account,
        "channel": wanted.channel,
        "business_system": wanted.system,
        "template": wanted.template,
        "data": {} if wanted.data is None else wanted.data,
    }
    frozen = to_json(body)
    if wanted.data is None and known.default_data is not None and not test:
        # The default data goes in as it is kept: it was checked when it was saved, and parsing it would cost more.
        frozen = frozen[: -len("{}}")] + known.default_data.encode() + b"}"
    return Ready(frozen, parked=known.disabled and not test)


def _lacking(wanted: Wanted, known: Known) -> Lacking | None:
    if not known.known:
        return Lacking("ChannelUnknown", f"The account has no channel {wanted.channel!r}.")
    if known.retired:
        return Lacking("ChannelIsRetired", f"Channel {wanted.channel!r} is retired.")
    version = wanted.settings_version or 0
    if known.version < version:
        message = f"Version {version} was asked for, but the channel is at version {known.version}."
        return Lacking("VersionYetToCome", message, behind=True)
    if not known.open:
        return Lacking("BusinessSystemUnknown", f"No business system {wanted.system!r} is open on this channel.")
    if wanted.code != TEST_CALL and known.default_data is None:
        return Lacking("IntentUnknown", f"Business system {wanted.system!r} has no intent {wanted.code!r}.")
    problem = None if wanted.data is None or known.schema is None else _problem(known.schema, wanted.data)
    if problem is not None:
        return Lacking("DataBreaksSchema", f"The data does not satisfy the schema of {wanted.code!r}: {problem}.")
    return None


def _problem(schema: str, data: dict[str, Any]) -> str | None:
    try:
        return problem_of_data(json.loads(schema), data)
    except SchemaUnusable as unusable:  # it was judged when it was saved
        return f"the schema cannot be used, {unusable}"

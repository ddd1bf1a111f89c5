"""The access log in the database: written in the transaction of what it tells of, read by auditors."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from typing_extensions import TypedDict

from contracts.access_log import AccessEnvelope
from contracts.ids import new_id
from contracts.message import EventData, rfc3339
from services.gateway.authentication.actor import Actor
from services.gateway.authentication.roles import Scope
from services.infrastructure.postgres import Connection, Pool

SOURCE = "gateway"

_ADD = """
    INSERT INTO gateway.access_log (time, type, account, channel, provider, record) VALUES ($1, $2, $3, $4, $5, $6)
"""
_LIST = """
    SELECT number, record FROM gateway.access_log
    WHERE ($1::text IS NULL OR account = $1) AND ($2::text IS NULL OR channel = $2)
        AND ($3::text IS NULL OR provider = $3) AND (cardinality($4::text[]) = 0 OR type = ANY($4))
        AND ($5::timestamptz IS NULL OR time >= $5) AND ($6::timestamptz IS NULL OR time < $6) AND number > $7
    ORDER BY number LIMIT $8
"""


@dataclass(frozen=True, slots=True)
class Concerned:
    """Whose auditors see a record, besides the platform's."""

    account: str | None = None
    channel: str | None = None
    provider: str | None = None

    @classmethod
    def of(cls, scope: Scope) -> Concerned:
        return cls(scope.account, scope.channel, scope.provider)


@dataclass(frozen=True, slots=True)
class AccessLogFilter:
    """``since`` is included, ``until`` is not; no types are all."""

    concerned: Concerned = Concerned()
    types: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None


async def record(connection: Pool | Connection, data: EventData, concerned: Concerned, by: Actor) -> None:
    """Writes a record, to be published once the transaction is committed."""
    now = time.time_ns() // 1_000_000
    kind, provider = type(data).__name__, concerned.provider or by.provider
    envelope = AccessEnvelope(
        id=new_id(),
        type=kind,
        source=SOURCE,
        subject=concerned.channel,
        time=rfc3339(now),
        accountid=concerned.account,
        actor=by.subject,
        data=data.model_dump(mode="json", exclude_none=True),
        **by.origin.model_dump(),
    )
    await connection.execute(
        _ADD,
        datetime.fromtimestamp(now / 1000, UTC),
        kind,
        concerned.account,
        concerned.channel,
        provider,
        envelope.model_dump_json(exclude_none=True),
    )


class AccessLogPage(TypedDict):
    """Records of the access log, oldest first."""

    records: list[AccessEnvelope]
    next: int | None


async def list_records(
    pool: Pool, asked: AccessLogFilter, after: int, limit: int
) -> tuple[list[dict[str, Any]], int | None]:
    """Returns the records after a number, in the order of writing, and the number after which more follow, if any."""
    who = asked.concerned
    rows = await pool.fetch(
        _LIST,
        who.account,
        who.channel,
        who.provider,
        list(asked.types),
        asked.since,
        asked.until,
        after,
        limit + 1,
    )
    following = rows[limit - 1]["number"] if len(rows) > limit else None
    return [json.loads(row["record"]) for row in rows[:limit]], following

"""The rows of messages, and their statuses that wait for a decision."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from contracts.message_routing import Category, FallbackTrigger
from contracts.message_status import Status, Via
from services.domain.message_routing.country import Country
from services.domain.message_routing.lifecycle import Asked, Fallback, RoutedMessage, next_timer
from services.infrastructure.postgres import Connection
from services.message_router.notices import Subject
from services.message_router.requests import MessageKey, RouteRequest, StatusReport

_COLUMNS: dict[str, str] = {
    "channel": "text",
    "account": "text",
    "message": "text",
    "partition": "int",
    "digest": "text",
    "correlation_id": "text",
    "state": "text",
    "requested_at": "bigint",
    "asked_version": "bigint",
    "category": "text",
    "country": "text",
    "country_source": "text",
    "recipient_hash": "text",
    "fallback_on": "text",
    "fallback_wait_seconds": "int",
    "fallback_to": "bytea",
    "decided_at": "bigint",
    "settings_version": "bigint",
    "decision": "text",
    "refusal": "text",
    "resource": "text",
    "reservation": "text",
    "reserved_until": "bigint",
    "posted_late": "bool",
    "fallback": "text",
    "fires_at": "bigint",
    "seen": "text",
    "double_charge_told": "bool",
    "next_timer": "bigint",
}
_LISTS = {"fallback_on", "seen"}
_VALUES = {name: f"{name}::json" for name in ("decision", "refusal")} | {
    name: f"string_to_array({name}, ' ')" for name in _LISTS
}
_FIXED = {"channel", "account", "message", "partition", "digest", "correlation_id", "requested_at"}
_SAVE = f"""
    INSERT INTO message_router.messages ({", ".join(_COLUMNS)})
    SELECT {", ".join(_VALUES.get(name, name) for name in _COLUMNS)}
    FROM unnest({", ".join(f"${at}::{kind}[]" for at, kind in enumerate(_COLUMNS.values(), start=1))})
        AS n({", ".join(_COLUMNS)})
    ON CONFLICT (channel, account, message) DO UPDATE
    SET {", ".join(f"{name} = excluded.{name}" for name in _COLUMNS if name not in _FIXED)}
"""  # noqa: S608 -- constants of ours
_LOAD = """
    SELECT m.* FROM message_router.messages m
    JOIN unnest($1::text[], $2::text[], $3::text[]) AS w(channel, account, message) USING (channel, account, message)
"""
_ADD_STATUSES = """
    INSERT INTO message_router.statuses
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
        $8::bigint[])
    ON CONFLICT DO NOTHING
"""
_ADD_WAITING = """
    INSERT INTO message_router.waiting_statuses
        (channel, account, message, via, status, at, error, received_at, partition, report_id, correlation_id)
    SELECT channel, account, message, via, status, at, error, received_at, partition, report_id, correlation_id
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[],
        $9::int[], $10::text[], $11::text[]) WITH ORDINALITY
        AS n(channel, account, message, via, status, at, error, received_at, partition, report_id, correlation_id,
            place)
    ORDER BY place
    ON CONFLICT DO NOTHING
"""
_TAKE_WAITING = """
    WITH taken AS (
        DELETE FROM message_router.waiting_statuses s
        USING unnest($1::text[], $2::text[], $3::text[]) AS w(channel, account, message)
        WHERE s.channel = w.channel AND s.account = w.account AND s.message = w.message
        RETURNING s.*
    ) SELECT * FROM taken ORDER BY number
"""


@dataclass(slots=True)
class MessageRow:
    """A message as it stands in the transaction. ``decision`` is the data of its `MessageRouted`, as JSON,
    ``refusal`` that of its `RoutingRefused`."""

    subject: Subject
    digest: str
    state: str
    requested_at: int
    asked_version: int | None
    category: Category
    country: Country
    recipient_hash: str
    asked: Asked | None
    fallback_to: bytes | None
    decided_at: int | None = None
    settings_version: int | None = None
    decision: str | None = None
    refusal: str | None = None
    resource: str | None = None
    life: RoutedMessage = field(default_factory=RoutedMessage)
    changed: bool = False

    @property
    def key(self) -> MessageKey:
        return self.subject.channel, self.subject.account, self.subject.message

    @classmethod
    def requested(cls, request: RouteRequest, now: int) -> MessageRow:
        return cls(
            request.subject,
            request.digest,
            "waiting",
            now,
            request.settings_version,
            request.category,
            request.country,
            request.recipient_hash,
            request.asked,
            request.fallback_to,
            changed=True,
        )

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> MessageRow:
        message = row["message"]
        subject = Subject(row["partition"], row["channel"], row["account"], message, message, row["correlation_id"])
        on = None if row["fallback_on"] is None else frozenset(cast("list[FallbackTrigger]", row["fallback_on"]))
        life = RoutedMessage(
            reservation=row["reservation"],
            reserved_until=row["reserved_until"],
            posted_late=row["posted_late"],
            fallback=row["fallback"],
            fallback_asked=None if on is None else Fallback(on, row["fires_at"]),
            seen=frozenset(cast("tuple[Via, Status]", tuple(one.split("/"))) for one in row["seen"]),
            double_charge_told=row["double_charge_told"],
        )
        return cls(
            subject,
            row["digest"],
            row["state"],
            row["requested_at"],
            row["asked_version"],
            row["category"],
            Country(row["country"], row["country_source"]),
            row["recipient_hash"],
            None if on is None else Asked(on, row["fallback_wait_seconds"]),
            row["fallback_to"],
            row["decided_at"],
            row["settings_version"],
            row["decision"],
            row["refusal"],
            row["resource"],
            life,
        )

    def values(self) -> tuple[Any, ...]:
        """In the order of the columns. The number is removed once nothing can need it any more."""
        subject, life, asked = self.subject, self.life, self.asked
        settled = self.state == "refused" or (self.state == "routed" and life.is_settled)
        return (
            subject.channel,
            subject.account,
            subject.message,
            subject.partition,
            self.digest,
            subject.correlation_id,
            self.state,
            self.requested_at,
            self.asked_version,
            self.category,
            self.country.code,
            self.country.source,
            self.recipient_hash,
            None if asked is None else " ".join(sorted(asked.on)),
            None if asked is None else asked.wait_seconds,
            None if settled else self.fallback_to,
            self.decided_at,
            self.settings_version,
            self.decision,
            self.refusal,
            self.resource,
            life.reservation,
            life.reserved_until,
            life.posted_late,
            life.fallback,
            None if life.fallback_asked is None else life.fallback_asked.fires_at,
            " ".join(sorted(f"{via}/{status}" for via, status in life.seen)),
            life.double_charge_told,
            next_timer(life) if self.state == "routed" else None,
        )


async def load_messages(connection: Connection, keys: Collection[MessageKey]) -> dict[MessageKey, MessageRow]:
    rows = [MessageRow.of(row) for row in await connection.fetch(_LOAD, *_columns(keys, 3))]
    return {row.key: row for row in rows}


async def save_messages(connection: Connection, rows: Iterable[MessageRow]) -> None:
    changed = [row.values() for row in rows if row.changed]
    if changed:
        await connection.execute(_SAVE, *_columns(changed, len(_COLUMNS)))


async def add_statuses(connection: Connection, reports: Sequence[StatusReport], now: int) -> None:
    """Adds the statuses to the timelines of their messages."""
    if reports:
        values = [(*one.key, one.via, one.status, one.at, one.error, now) for one in reports]
        await connection.execute(_ADD_STATUSES, *_columns(values, 8))


async def add_waiting_statuses(connection: Connection, reports: Sequence[StatusReport]) -> None:
    """Keeps the statuses of messages that are not decided yet."""
    if reports:
        values = [
            (
                *(*one.key, one.via, one.status, one.at, one.error, one.received_at, one.subject.partition),
                *(one.subject.causation_id, one.subject.correlation_id),
            )
            for one in reports
        ]
        await connection.execute(_ADD_WAITING, *_columns(values, 11))


async def take_waiting_statuses(connection: Connection, keys: Collection[MessageKey]) -> list[StatusReport]:
    """Removes and returns the kept statuses of these messages, in the order of their arrival."""
    return [report_of(row) for row in await connection.fetch(_TAKE_WAITING, *_columns(keys, 3))]


def report_of(row: Mapping[str, Any]) -> StatusReport:
    subject = Subject(
        row["partition"], row["channel"], row["account"], row["message"], row["report_id"], row["correlation_id"]
    )
    return StatusReport(subject, row["status"], row["via"], row["at"], row["error"], row["received_at"])


def _columns(rows: Iterable[tuple[Any, ...]], width: int) -> list[list[Any]]:
    """The values by column; ``width`` empty columns where there are no rows."""
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(width)]

"""The rows of messages, and their statuses that wait for a decision."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from contracts.message_routing import Category, FallbackTrigger
from contracts.message_status import Status, Via
from services.domain.message_routing.country import Country
from services.domain.message_routing.lifecycle import Asked, Fallback, RoutedMessage, next_timer
from services.infrastructure.postgres import Connection
from services.message_router.notices import Subject
from services.message_router.requests import MessageKey, RouteRequest, StatusReport

_KEY = ("channel", "account", "message")
_FIXED = (
    *("partition", "digest", "correlation_id", "requested_at", "asked_version", "category", "country"),
    *("country_source", "recipient_hash", "fallback_on", "fallback_wait_seconds"),
)
_CHANGING = {
    "state": "text",
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
    "due_at": "bigint",
    "next_timer": "bigint",
}
_VALUES = {"decision": "n.decision::json", "refusal": "n.refusal::json", "seen": "string_to_array(n.seen, ' ')"}
_UPDATE = f"""
    UPDATE message_router.messages m SET {", ".join(f"{name} = {_VALUES.get(name, f'n.{name}')}" for name in _CHANGING)}
    FROM unnest($1::text[], $2::text[], $3::text[],
        {", ".join(f"${at}::{kind}[]" for at, kind in enumerate(_CHANGING.values(), start=4))})
        AS n({", ".join((*_KEY, *_CHANGING))})
    WHERE m.channel = n.channel AND m.account = n.account AND m.message = n.message
"""  # noqa: S608 -- constants of ours
# With the statuses that wait: one look for both, and one statement less where there are none.
_LOAD = """
    SELECT w.channel AS wanted_channel, w.account AS wanted_account, w.message AS wanted_message, has_statuses, m.*
    FROM unnest($1::text[], $2::text[], $3::text[]) AS w(channel, account, message)
    LEFT JOIN message_router.messages m
        ON m.channel = w.channel AND m.account = w.account AND m.message = w.message
    CROSS JOIN LATERAL (SELECT EXISTS (
        SELECT FROM message_router.waiting_statuses s
        WHERE s.channel = w.channel AND s.account = w.account AND s.message = w.message) AS has_statuses) AS waiting
    WHERE m.channel IS NOT NULL OR has_statuses
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


_DELETE = """
    DELETE FROM message_router.messages m USING unnest($1::text[], $2::text[], $3::text[]) AS w(channel, account, name)
    WHERE m.channel = w.channel AND m.account = w.account AND m.message = w.name
"""
NEW_MESSAGE = RoutedMessage()


@dataclass(slots=True)
class MessageRow:
    """A message as it stands in the transaction. ``decision`` is the data of its `MessageRouted`, as JSON,
    ``refusal`` that of its `RoutingRefused`. Where it has one of these and waits, it was restored from the topics."""

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
    life: RoutedMessage = NEW_MESSAGE
    is_new: bool = False
    changed: bool = False
    is_stored: bool = False
    """With ``is_new``: another row of the message gives way to this one."""

    @property
    def key(self) -> MessageKey:
        return self.subject.channel, self.subject.account, self.subject.message

    @property
    def lacks_request(self) -> bool:
        """Whether only what was published is known of it: what was asked for is in its request, which comes again."""
        return not self.digest

    def with_request(self, request: RouteRequest) -> MessageRow:
        asked = MessageRow.requested(request, self.requested_at)
        return replace(
            asked,
            subject=self.subject,
            decided_at=self.decided_at,
            settings_version=self.settings_version,
            decision=self.decision,
            refusal=self.refusal,
            resource=self.resource,
            life=self.life,
            is_stored=True,
        )

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
            is_new=True,
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
            due_at=row["due_at"],
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

    def fixed_values(self) -> tuple[Any, ...]:
        """In the order of ``_FIXED``."""
        subject, asked = self.subject, self.asked
        return (
            subject.partition,
            self.digest,
            subject.correlation_id,
            self.requested_at,
            self.asked_version,
            self.category,
            self.country.code,
            self.country.source,
            self.recipient_hash,
            None if asked is None else sorted(asked.on),
            None if asked is None else asked.wait_seconds,
        )

    def changing_values(self) -> tuple[Any, ...]:
        """In the order of ``_CHANGING``. The number is removed once nothing can need it any more."""
        life = self.life
        settled = self.state == "refused" or (self.state == "routed" and life.is_settled)
        return (
            self.state,
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
            [f"{via}/{status}" for via, status in sorted(life.seen)],
            life.double_charge_told,
            life.due_at,
            next_timer(life) if self.state == "routed" else None,
        )


async def load_messages(
    connection: Connection, keys: Collection[MessageKey]
) -> tuple[dict[MessageKey, MessageRow], set[MessageKey]]:
    """The known messages of ``keys``, and which of ``keys`` have statuses that wait for a decision."""
    messages, with_statuses = {}, set()
    for row in await connection.fetch(_LOAD, *_columns(keys, 3)):
        key = row["wanted_channel"], row["wanted_account"], row["wanted_message"]
        if row["has_statuses"]:
            with_statuses.add(key)
        if row["state"] is not None:
            messages[key] = MessageRow.of(row)
    return messages, with_statuses


async def save_messages(connection: Connection, rows: Collection[MessageRow]) -> None:
    """The transaction must have locked the partitions: a message that is new to it is new to all."""
    given_way = [row.key for row in rows if row.is_new and row.is_stored]
    if given_way:
        await connection.execute(_DELETE, *_columns(given_way, 3))
    new = [(*row.key, *row.fixed_values(), *row.changing_values()) for row in rows if row.is_new]
    if new:
        columns = (*_KEY, *_FIXED, *_CHANGING)
        await connection.copy_records_to_table("messages", schema_name="message_router", records=new, columns=columns)
    changed = [(*row.key, *row.changing_values()) for row in rows if row.changed and not row.is_new]
    if changed:
        values = dict(zip((*_KEY, *_CHANGING), _columns(changed, len(_KEY) + len(_CHANGING)), strict=True))
        values["seen"] = [" ".join(one) for one in values["seen"]]
        await connection.execute(_UPDATE, *values.values())


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
    if not keys:
        return []
    return [report_of(row) for row in await connection.fetch(_TAKE_WAITING, *_columns(keys, 3))]


def report_of(row: Mapping[str, Any]) -> StatusReport:
    subject = Subject(
        row["partition"], row["channel"], row["account"], row["message"], row["report_id"], row["correlation_id"]
    )
    return StatusReport(subject, row["status"], row["via"], row["at"], row["error"], row["received_at"])


def _columns(rows: Iterable[tuple[Any, ...]], width: int) -> list[list[Any]]:
    """The values by column; ``width`` empty columns where there are no rows."""
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(width)]

"""Entries of the history: one row per event and per rejection."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec.json import encode as to_json

from contracts.outcome import OutcomeEnvelope
from projections.events import TracedEvent
from projections.sql import CopyConnection

_COLUMNS = (
    *("topic", "partition", "log_offset", "id", "time", "account", "channel", "command", "command_id"),
    *("correlation_id", "actor", "source", "version", "type", "resource", "before", "after", "data"),
    *("rejection", "message", "repeated"),
)
_NUL = b"\\u0000"


def entry_of(
    record: Any,
    partition: int,
    envelope: TracedEvent | OutcomeEnvelope,
    version: int | None,
    kind: str,
    resource: str | None,
    before: str | None,
    after: str | None,
    data: str | None,
    rejection: str | None = None,
    message: str | None = None,
    repeated: bool = False,  # noqa: FBT001, FBT002 -- a column of a row
) -> tuple[Any, ...]:
    """A row of `_COLUMNS`. Clients' text may hold a NUL, which PostgreSQL's text cannot: it is replaced."""
    row = (
        "outcomes" if isinstance(envelope, OutcomeEnvelope) else "events",
        partition,
        record.offset,
        envelope.id,
        datetime.fromisoformat(envelope.time),
        envelope.accountid,
        envelope.subject,
        envelope.commandtype,
        envelope.causationid,
        envelope.correlationid,
        envelope.actor,
        envelope.commandsource,
        version,
        kind,
        resource,
        before,
        after,
        data,
        rejection,
        message,
        repeated,
    )
    if _NUL not in record.value:
        return row
    return tuple(value.replace("\0", "\ufffd") if isinstance(value, str) else value for value in row)


def json_text(value: Any) -> str:
    return to_json(value).decode()


async def insert_entries(connection: CopyConnection, entries: list[tuple[Any, ...]]) -> None:
    if entries:
        await connection.copy_records_to_table("entries", records=entries, columns=list(_COLUMNS))

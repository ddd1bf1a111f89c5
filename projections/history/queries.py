"""Queries of the history: newest first, in pages."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from contracts.topics import EVENTS
from projections.history import NAME
from projections.sql import SqlConnection, statements

_SQL = statements(Path(__file__).with_suffix(".sql"))
FIND_ABOUT = _SQL["find_about"]
_DOCUMENTS = ("before", "after", "data")
_HIDDEN = ("topic", "partition", "log_offset")


@dataclass(frozen=True, slots=True)
class Sought:
    """Filters of the history; None selects all. ``types`` are of events, commands or rejections; ``until`` is excluded.

    ``before`` is the ``next`` of the previous page.
    """

    account: str | None = None
    channel: str | None = None
    actor: str | None = None
    types: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    before: str | None = None


async def find(
    connection: SqlConnection, sought: Sought, limit: int, parse: Callable[[str], Any] = json.loads
) -> tuple[list[dict[str, Any]], str | None]:
    """A page of entries, and the ``before`` of the next one. Raises ValueError on an invalid ``before``.

    ``parse`` gets the JSON text of what an event changed.
    """
    start = (None, None, None, None) if sought.before is None else _parse_page_cursor(sought.before)
    rows = await connection.fetch(
        _SQL["find"],
        sought.account,
        sought.channel,
        sought.actor,
        list(sought.types) or None,
        sought.since and sought.since.replace(microsecond=sought.since.microsecond // 1000 * 1000),  # as events' times
        sought.until,
        *start,
        limit,
    )
    return [_shown(row, parse) for row in rows], _page_cursor(rows[-1]) if len(rows) == limit else None


async def find_about(
    connection: SqlConnection, account: str | None, channel: str, request_id: str, limit: int
) -> list[dict[str, Any]]:
    """The newest entries of a channel with that command id or correlation id, the newest first."""
    return [_shown(row) for row in await connection.fetch(FIND_ABOUT, account, channel, request_id, limit)]


async def events_between(connection: SqlConnection, partition: int, first: int, last: int) -> dict[int, dict[str, Any]]:
    """Offset -> the entry of the event at that offset, as `find` returns it."""
    rows = await connection.fetch(_SQL["events_between"], partition, first, last)
    return {row["log_offset"]: _shown(row) for row in rows}


async def unread_events(connection: SqlConnection) -> list[tuple[int, int, str]]:
    """(partition, offset, channel) of entries that the history has not read, or of an unknown topic: at most 100."""
    rows = await connection.fetch(_SQL["unread_events"], NAME, EVENTS.name)
    return [(row["partition"], row["log_offset"], row["channel"]) for row in rows]


async def versions(
    connection: SqlConnection, channels: Sequence[tuple[str | None, str]]
) -> dict[tuple[str | None, str], int]:
    """The version that the history has of each channel, of an account or of any; without those that it lacks."""
    rows = await connection.fetch(_SQL["versions"], *map(list, zip(*channels, strict=True)))
    return {(row["account"], row["channel"]): row["version"] for row in rows}


def _shown(row: Any, parse: Callable[[str], Any] = json.loads) -> dict[str, Any]:
    """The entry as JSON, without empty fields."""
    shown: dict[str, Any] = {"position": f"switchboard.{row['topic']}/{row['partition']}/{row['log_offset']}"}
    for name, value in row.items():
        if name in _HIDDEN or value is None or value is False:
            continue
        shown[name] = parse(value) if name in _DOCUMENTS else value
    shown["time"] = row["time"].astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
    return shown


def _page_cursor(row: Any) -> str:
    microseconds = round(row["time"].timestamp() * 1_000_000)
    return f"{microseconds}.{row['topic']}.{row['partition']}.{row['log_offset']}"


def _parse_page_cursor(text: str) -> tuple[datetime, str, int, int]:
    microseconds, topic, partition, offset = text.split(".")
    if topic not in ("events", "outcomes") or not all(
        part.isascii() and part.isdigit() and len(part) < 18 for part in (microseconds, partition, offset)
    ):
        raise ValueError("it must be as a page gave it")
    try:
        return datetime.fromtimestamp(int(microseconds) / 1_000_000, UTC), topic, int(partition) % 2**31, int(offset)
    except (OverflowError, OSError):
        raise ValueError("it must be as a page gave it") from None

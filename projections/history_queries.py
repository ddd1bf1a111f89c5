"""Reading the history: newest first, a page at a time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from projections.settings import Connection
from projections.sql import statements

_SQL = statements(Path(__file__).with_name("history.sql"))
_DOCUMENTS = ("before", "after", "data")
_HIDDEN = ("topic", "partition", "log_offset")


@dataclass(frozen=True, slots=True)
class Sought:
    """What is looked for; None asks for all. ``types`` are of events, commands or rejections; ``until`` is excluded.

    ``before`` is what a page gave as its ``next``.
    """

    account: str | None = None
    channel: str | None = None
    actor: str | None = None
    types: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    before: str | None = None


async def find(connection: Connection, sought: Sought, limit: int) -> tuple[list[dict[str, Any]], str | None]:
    """Entries, and where the next page begins. Raises ValueError where ``before`` is not what a page gave."""
    place = (None, None, None, None) if sought.before is None else _place(sought.before)
    rows = await connection.fetch(
        _SQL["find"],
        sought.account,
        sought.channel,
        sought.actor,
        list(sought.types) or None,
        sought.since,
        sought.until,
        *place,
        limit,
    )
    return [_shown(row) for row in rows], _mark(rows[-1]) if len(rows) == limit else None


async def events_between(connection: Connection, partition: int, first: int, last: int) -> dict[int, dict[str, Any]]:
    """Offset -> the entry of the event there, as `find` shows it."""
    rows = await connection.fetch(_SQL["events_between"], partition, first, last)
    return {row["log_offset"]: _shown(row) for row in rows}


async def has_version(connection: Connection, channel: str, version: int) -> bool:
    rows = await connection.fetch(_SQL["has_version"], channel, version)
    return bool(rows[0]["reached"])


def _shown(row: Any) -> dict[str, Any]:
    """As JSON; what does not apply is left out."""
    shown: dict[str, Any] = {"position": f"switchboard.{row['topic']}/{row['partition']}/{row['log_offset']}"}
    for name, value in row.items():
        if name in _HIDDEN or value is None or value is False:
            continue
        shown[name] = json.loads(value) if name in _DOCUMENTS else value
    shown["time"] = row["time"].astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
    return shown


def _mark(row: Any) -> str:
    microseconds = round(row["time"].timestamp() * 1_000_000)
    return f"{microseconds}.{row['topic']}.{row['partition']}.{row['log_offset']}"


def _place(text: str) -> tuple[datetime, str, int, int]:
    microseconds, topic, partition, offset = text.split(".")
    if topic not in ("events", "outcomes") or not all(
        part.isascii() and part.isdigit() and len(part) < 18 for part in (microseconds, partition, offset)
    ):
        raise ValueError("it must be as a page gave it")
    try:
        return datetime.fromtimestamp(int(microseconds) / 1_000_000, UTC), topic, int(partition) % 2**31, int(offset)
    except (OverflowError, OSError):
        raise ValueError("it must be as a page gave it") from None

"""Queries of the intent catalogue."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from projections.sql import SqlConnection, statements

_SQL = statements(Path(__file__).with_suffix(".sql"))

Row = dict[str, Any]


def all_systems(connection: Any) -> AsyncIterator[Any]:
    """Every system's row, by channel and id; the connection must be in a transaction."""
    rows: AsyncIterator[Any] = aiter(connection.cursor(_SQL["all_systems"], prefetch=1_000))
    return rows


def all_intents(connection: Any) -> AsyncIterator[Any]:
    """Every intent's row, by channel, system and code; the connection must be in a transaction."""
    rows: AsyncIterator[Any] = aiter(connection.cursor(_SQL["all_intents"], prefetch=1_000))
    return rows


async def find(
    connection: SqlConnection,
    account: str | None,
    *,
    channel: str | None = None,
    code: str | None = None,
    template: str | None = None,
    after: tuple[str, str, str] = ("", "", ""),
    limit: int = 100,
    parse: Callable[[str], Any] = json.loads,
) -> list[Row]:
    """Intents by channel, system and code, after the key ``after``; of all accounts where ``account`` is None.

    ``parse`` gets the JSON text of an intent's documents.
    """
    rows = await connection.fetch(_SQL["find"], account, channel, code, template, *after, limit)
    return [
        {
            "account": row["account"],
            "channel": row["channel"],
            "business_system": row["system"],
            "business_system_name": row["system_name"],
            "disabled": row["disabled"],
            "code": row["code"],
            "name": row["name"],
            "default_data": parse(row["default_data"]),
            "schema": None if row["json_schema"] is None else parse(row["json_schema"]),
            "templates": list(row["templates"]),
            "version": row["version"],
        }
        for row in rows
    ]

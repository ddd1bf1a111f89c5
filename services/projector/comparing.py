"""Two versions of the tables of settings, held against each other byte for byte."""

from __future__ import annotations

import asyncio
from typing import Any

from services.infrastructure.postgres import Connection

_KEYS = {
    "channels": "channel",
    "business_systems": "channel, system",
    "intents": "channel, system, code",
    "positions": "partition",
}
_NAMED = 5
_ROWS_A_FETCH = 1_000


async def compare(one: Connection, schema: str, other: Connection, other_schema: str) -> tuple[int, list[str]]:
    """How many rows were compared, and a clause for each of a few that differ. Both in transactions of a snapshot."""
    rows, differences = 0, []
    for table, key in _KEYS.items():
        mine, others = await asyncio.gather(_digest(one, schema, table), _digest(other, other_schema, table))
        rows += mine[0]
        if mine != others:
            differences += await _name_differences(one, schema, other, other_schema, table, key)
    return rows, differences


async def _digest(connection: Connection, schema: str, table: str) -> tuple[int, Any, Any]:
    """Of the rows as text, whatever their order: their number, and the sums of two hashes of 64 bits."""
    row = await connection.fetchrow(
        f"SELECT count(*), sum(hashtextextended(t::text, 1)::numeric), "  # noqa: S608 -- our names
        f"sum(hashtextextended(t::text, 2)::numeric) FROM {schema}.{table} t",
        timeout=3_600,
    )
    if row is None:
        raise LookupError(f"{schema}.{table} cannot be counted")
    return row[0], row[1], row[2]


async def _name_differences(
    one: Connection, schema: str, other: Connection, other_schema: str, table: str, key: str
) -> list[str]:
    left, right = _rows(one, schema, table, key), _rows(other, other_schema, table, key)
    found: list[str] = []
    first, second = await anext(left, None), await anext(right, None)
    while (first is not None or second is not None) and len(found) < _NAMED:
        if second is None or (first is not None and first[0] < second[0]):
            found.append(f"{table} {_named(first)} is live, and not built")
            first = await anext(left, None)
        elif first is None or second[0] < first[0]:
            found.append(f"{table} {_named(second)} was built, and is not live")
            second = await anext(right, None)
        else:
            if first[1] != second[1]:
                found.append(f"{table} {_named(first)} was built otherwise")
            first, second = await anext(left, None), await anext(right, None)
    await left.aclose()
    await right.aclose()
    return found or [f"{table} differs"]


def _named(row: tuple[list[str], str] | None) -> str:
    return "/".join(row[0]) if row else "?"


async def _rows(connection: Connection, schema: str, table: str, key: str) -> Any:
    """(key, row as text), by key as bytes sort."""
    columns = ", ".join(f"{part}::text" for part in key.split(", "))
    order = ", ".join(f'{part}::text COLLATE "C"' for part in key.split(", "))
    statement = f"SELECT ARRAY[{columns}], t::text FROM {schema}.{table} t ORDER BY {order}"  # noqa: S608 -- our names
    async for row in connection.cursor(statement, prefetch=_ROWS_A_FETCH):
        yield row[0], row[1]

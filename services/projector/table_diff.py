"""Comparing two versions of a read model's tables, byte for byte."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from services.infrastructure.postgres import Connection

_NAMED = 5
_ROWS_A_FETCH = 1_000


async def compare(
    one: Connection, schema: str, other: Connection, other_schema: str, keys: Mapping[str, str]
) -> tuple[int, list[str]]:
    """The number of rows compared, and the first differences as clauses. Both must be in snapshot transactions.

    ``keys`` is table -> its key's columns.
    """
    rows, differences = 0, []
    for table, key in keys.items():
        mine, others = await asyncio.gather(_digest(one, schema, table), _digest(other, other_schema, table))
        rows += mine[0]
        if mine != others:
            differences += await _name_differences(one, schema, other, other_schema, table, key)
    return rows, differences


async def _digest(connection: Connection, schema: str, table: str) -> tuple[int, Any, Any]:
    """The number of rows, and the sums of two 64-bit hashes of their texts, which do not depend on the order."""
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
    """(key, row as text), in byte order of the keys."""
    columns = ", ".join(f"{part}::text" for part in key.split(", "))
    order = ", ".join(f'{part}::text COLLATE "C"' for part in key.split(", "))
    statement = f"SELECT ARRAY[{columns}], t::text FROM {schema}.{table} t ORDER BY {order}"  # noqa: S608 -- our names
    async for row in connection.cursor(statement, prefetch=_ROWS_A_FETCH):
        yield row[0], row[1]

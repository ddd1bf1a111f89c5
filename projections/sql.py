"""SQL in files of its own, beside the projection that it belongs to; and rows given to it as one JSON document.

Columns of type json come in as text: PostgreSQL, asked to take a document out of another one, refuses the NUL that a
string in it may hold. As text it goes in, and comes back, every character and digit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic_core import to_json

_MARK = "-- name: "

Columns = Mapping[str, str]
"""Name -> PostgreSQL type, in the order of the table."""


def statements(path: Path) -> dict[str, str]:
    """The statements of the file by name: each begins below a line ``-- name: …``."""
    found: dict[str, str] = {}
    for part in path.read_text().split(_MARK)[1:]:
        name, _, text = part.partition("\n")
        found[name.strip()] = text.strip()
    return found


def insert(table: str, columns: Columns) -> str:
    """Inserts the rows of `as_json`, its one parameter."""
    taken = ", ".join(f"{name}::json" if kind == "json" else name for name, kind in columns.items())
    given = ", ".join(f"{name} {'text' if kind == 'json' else kind}" for name, kind in columns.items())
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) "  # noqa: S608 -- our names
        f"SELECT {taken} FROM json_to_recordset($1::json) AS given ({given})"
    )


def upsert(table: str, columns: Columns, key: Sequence[str]) -> str:
    """The same, and takes the place of rows that are there."""
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in key)
    return f"{insert(table, columns)} ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changes}"


def as_json(rows: Iterable[Mapping[str, Any]], columns: Columns) -> str:
    documents = [name for name, kind in columns.items() if kind == "json"]
    return to_json([{**row, **{name: document(row.get(name)) for name in documents}} for row in rows]).decode()


def document(value: Any) -> str | None:
    return None if value is None else to_json(value).decode()

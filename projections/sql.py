"""Named SQL statements from files, and statements that take many rows at once.

Rows are records, for COPY, or one list per column, which PostgreSQL reads many times faster than one JSON document of
all rows. JSON columns are passed as text: PostgreSQL refuses to extract a document with a NUL in a string from another
one, and as text every character and digit is preserved.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, Protocol

from pydantic_core import to_json

_MARK = "-- name: "
_DOCUMENTS = ("json", "jsonb")

Columns = Mapping[str, str]
"""Name -> PostgreSQL type, in the order of the table."""

Record = tuple[Any, ...]


class SqlConnection(Protocol):
    """The methods of an asyncpg connection that the read models call."""

    @property
    def fetch(self) -> Callable[..., Awaitable[list[Any]]]: ...
    @property
    def execute(self) -> Callable[..., Awaitable[str]]: ...


class CopyConnection(SqlConnection, Protocol):
    """A connection that can also write by COPY."""

    @property
    def copy_records_to_table(self) -> Callable[..., Awaitable[str]]: ...


def statements(path: Path) -> dict[str, str]:
    """The statements of the file by name: each begins below a line ``-- name: …``."""
    found: dict[str, str] = {}
    for part in path.read_text("utf-8").split(_MARK)[1:]:
        name, _, text = part.partition("\n")
        found[name.strip()] = text.strip()
    return found


def upsert(table: str, columns: Columns, key: Sequence[str]) -> str:
    """A statement that inserts or replaces rows; its parameters are the `arrays` of the rows."""
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in key)
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(map(_value, columns.items()))} "  # noqa: S608 -- our names
        f"FROM {_given(columns)} ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changes}"
    )


def update(table: str, columns: Columns, changing: Iterable[str], condition: str) -> str:
    """A statement that updates rows where the condition on ``given`` holds; its parameters are `arrays` of the rows.

    A jsonb column keeps the keys that its new value does not have.
    """
    changes = ", ".join(
        f"{name} = {f'{table}.{name} || ' if columns[name] == 'jsonb' else ''}{_value((name, columns[name]))}"
        for name in changing
    )
    return f"UPDATE {table} SET {changes} FROM {_given(columns)} WHERE {condition}"  # noqa: S608 -- our names


def _given(columns: Columns) -> str:
    arrays = (f"${number}::{'text' if _as_text(kind) else kind}[]" for number, kind in enumerate(columns.values(), 1))
    return f"unnest({', '.join(arrays)}) AS given ({', '.join(columns)})"


def _value(column: tuple[str, str]) -> str:
    name, kind = column
    return f"given.{name}::{kind}" if _as_text(kind) else f"given.{name}"


def records(rows: Iterable[Mapping[str, Any]], columns: Columns) -> list[Record]:
    """The rows as records for COPY. At least two columns."""
    values_of = itemgetter(*columns)
    documents = [number for number, kind in enumerate(columns.values()) if kind in _DOCUMENTS]
    made = []
    for row in rows:
        values = list(values_of(row))
        for number in documents:
            if values[number] is not None:
                values[number] = to_json(values[number]).decode()
        made.append(tuple(values))
    return made


def arrays(rows: Iterable[Mapping[str, Any]], columns: Columns) -> list[list[Any]]:
    """The rows as one list per column."""
    rows = list(rows)
    return [_array([row[name] for row in rows], kind) for name, kind in columns.items()]


def _array(values: list[Any], kind: str) -> list[Any]:
    if kind in _DOCUMENTS:
        return [None if value is None else to_json(value).decode() for value in values]
    return list(map(_literal, values)) if kind == "text[]" else values


def _as_text(kind: str) -> bool:
    """Whether the type has no usable array: documents may hold a NUL, and lists differ in length."""
    return kind in _DOCUMENTS or kind == "text[]"


def _literal(texts: Sequence[str]) -> str:
    """A PostgreSQL array literal of texts."""
    escaped = (text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    return "{" + ",".join(f'"{text}"' for text in escaped) + "}"

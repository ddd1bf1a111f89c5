"""SQL in files of its own, beside the projection that it belongs to; and rows given to it all at once.

Rows are records, as COPY takes them, or a list for each column, which PostgreSQL reads many times faster than one JSON
document of rows. Documents go in as text: PostgreSQL, asked to take a document out of another one, refuses the NUL that
a string in it may hold. As text it goes in, and comes back, every character and digit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from pydantic_core import to_json

_MARK = "-- name: "

Columns = Mapping[str, str]
"""Name -> PostgreSQL type, in the order of the table."""

Record = tuple[Any, ...]


def statements(path: Path) -> dict[str, str]:
    """The statements of the file by name: each begins below a line ``-- name: …``."""
    found: dict[str, str] = {}
    for part in path.read_text().split(_MARK)[1:]:
        name, _, text = part.partition("\n")
        found[name.strip()] = text.strip()
    return found


def upsert(table: str, columns: Columns, key: Sequence[str]) -> str:
    """Inserts rows, or takes the place of those that are there; its parameters are the `arrays` of the rows."""
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in key)
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(map(_taken, columns.items()))} "  # noqa: S608 -- our names
        f"FROM {_given(columns)} ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changes}"
    )


def update(table: str, columns: Columns, changing: Iterable[str], condition: str) -> str:
    """Changes columns of rows where the condition on ``given`` holds; its parameters are the `arrays` of the rows."""
    changes = ", ".join(f"{name} = {_taken((name, columns[name]))}" for name in changing)
    return f"UPDATE {table} SET {changes} FROM {_given(columns)} WHERE {condition}"  # noqa: S608 -- our names


def _given(columns: Columns) -> str:
    arrays = (f"${number}::{'text' if _as_text(kind) else kind}[]" for number, kind in enumerate(columns.values(), 1))
    return f"unnest({', '.join(arrays)}) AS given ({', '.join(columns)})"


def _taken(column: tuple[str, str]) -> str:
    name, kind = column
    return f"given.{name}::{kind}" if _as_text(kind) else f"given.{name}"


def records(rows: Iterable[Mapping[str, Any]], columns: Columns) -> list[Record]:
    """There must be two columns or more."""
    values_of = itemgetter(*columns)
    documents = [number for number, kind in enumerate(columns.values()) if kind == "json"]
    made = []
    for row in rows:
        values = list(values_of(row))
        for number in documents:
            if values[number] is not None:
                values[number] = to_json(values[number]).decode()
        made.append(tuple(values))
    return made


def arrays(rows: Iterable[Mapping[str, Any]], columns: Columns) -> list[list[Any]]:
    """One list a column."""
    rows = list(rows)
    return [_array([row[name] for row in rows], kind) for name, kind in columns.items()]


def _array(values: list[Any], kind: str) -> list[Any]:
    if kind == "json":
        return [None if value is None else to_json(value).decode() for value in values]
    return list(map(_literal, values)) if kind == "text[]" else values


def _as_text(kind: str) -> bool:
    """Of what PostgreSQL has no array that fits: documents that may hold a NUL, and lists of different lengths."""
    return kind in ("json", "text[]")


def _literal(texts: Sequence[str]) -> str:
    """As PostgreSQL writes an array of texts."""
    escaped = (text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    return "{" + ",".join(f'"{text}"' for text in escaped) + "}"

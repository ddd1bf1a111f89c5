"""How answers are printed: ``-o json``, ``yaml`` or ``table``. By default a table on a terminal, and JSON elsewhere."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from itertools import chain, islice
from typing import Annotated, Any

import typer

_WIDTH_IN_A_FILE = 120
_LONGEST_CELL = 200
_ROWS_PER_TABLE = 200


class Format(StrEnum):
    """Of a list, JSON is one line per row, and YAML one list."""

    JSON = "json"
    TABLE = "table"
    YAML = "yaml"


Output = Annotated[
    Format | None,
    typer.Option("--output", "-o", help="default: a table on a terminal, JSON elsewhere", show_default=False),
]


def format_of(output: Format | None) -> Format:
    """What was chosen, or what suits the terminal or pipe."""
    return output or (Format.TABLE if sys.stdout.isatty() else Format.JSON)


def print_rows(rows: Iterable[Mapping[str, Any]], output: Format | None, columns: Sequence[str]) -> None:
    """Prints a list as it comes. ``columns`` are the fields that a table shows, in their order."""
    remaining = iter(rows)
    match format_of(output):
        case Format.JSON:
            for row in remaining:
                typer.echo(json.dumps(row, ensure_ascii=False))
        case Format.YAML:
            for row in remaining:
                typer.echo(_yaml([row]), nl=False)
        case Format.TABLE:
            for first in remaining:
                page = chain([first], islice(remaining, _ROWS_PER_TABLE - 1))
                _print_table(columns, ([row.get(name) for name in columns] for row in page))


def print_document(document: Mapping[str, Any], output: Format | None) -> None:
    """Prints one answer; in a table, a field per row."""
    match format_of(output):
        case Format.JSON:
            typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
        case Format.YAML:
            typer.echo(_yaml(document), nl=False)
        case Format.TABLE:
            nested = (
                (name, _yaml(value) if value and isinstance(value, (dict, list)) else value)
                for name, value in document.items()
            )
            _print_table(("field", "value"), nested, longest=None)


def console() -> Any:
    """A rich console for tables: as wide as the terminal, or as lines in a file are."""
    from rich.console import Console

    width_known = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if width_known else _WIDTH_IN_A_FILE)


def printable(text: str) -> str:
    """Replaces unprintable characters, so that no escape sequence reaches the terminal."""
    return "".join(character if character.isprintable() or character == "\n" else "�" for character in text)


def _print_table(columns: Sequence[str], rows: Iterable[Iterable[Any]], *, longest: int | None = _LONGEST_CELL) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(*(name.replace("_", " ") for name in columns), box=box.SIMPLE_HEAD)
    for column in table.columns:
        column.overflow = "fold"
    for row in rows:
        # As `Text`, what comes from outside is neither markup nor an emoji's name.
        table.add_row(*(Text(_cell(value, longest)) for value in row))
    console().print(table)


def _cell(value: Any, longest: int | None) -> str:
    match value:
        case None:
            return "–"
        case str():
            text = value.rstrip("\n")
        case [*entries] if all(isinstance(entry, str) for entry in entries):
            text = ", ".join(entries)
        case _:
            text = json.dumps(value, ensure_ascii=False)
    text = printable(text)
    return text if longest is None or len(text) <= longest else text[:longest] + "…"


def _yaml(document: Any) -> str:
    from services.audit.settings_files.strict_yaml import dump

    return dump(json.loads(json.dumps(document)))  # tuples are lists, as in JSON

"""Answers as JSON, a table or YAML: chosen by ``-o``, otherwise by whether a terminal shows them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from services.audit.settings_files.strict_yaml import load
from services.cli.errors import CliError
from services.cli.output import Format, print_document, print_rows
from services.cli.times import parse_instant, parse_time

ROWS: list[dict[str, Any]] = [
    {"id": "a", "on": True, "at": None, "names": ["Büro", "仓库"], "hidden": 1},
    {"id": "b\x1b[31m[red]", "on": False, "at": "NO", "names": [], "hidden": 2},
]


def _rows(capsys: pytest.CaptureFixture[str], output: Format | None) -> str:
    print_rows(ROWS, output, ("id", "on", "at", "names"))
    return capsys.readouterr().out


def test_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert [json.loads(line) for line in _rows(capsys, Format.JSON).splitlines()] == ROWS
    assert load(_rows(capsys, Format.YAML)) == ROWS
    table = _rows(capsys, Format.TABLE)
    assert [line.split() for line in table.splitlines() if line.split()[:1] in (["id"], ["a"])] == [
        ["id", "on", "at", "names"],
        ["a", "true", "–", "Büro,", "仓库"],
    ]
    assert "b�[31m[red]" in table
    assert "hidden" not in table


def test_one_answer(capsys: pytest.CaptureFixture[str]) -> None:
    document = {"id": "a", "settings": {"sms": {"enabled": True}, "countries": ["NO"]}, "text": "y" * 300}

    def printed(output: Format | None) -> str:
        print_document(document, output)
        return capsys.readouterr().out

    assert json.loads(printed(Format.JSON)) == document
    assert load(printed(Format.YAML)) == document
    table = printed(Format.TABLE)
    assert "  enabled: true" in table
    assert table.count("y") == 300


def test_the_terminal_decides(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert _rows(capsys, None) == _rows(capsys, Format.JSON)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert _rows(capsys, None) == _rows(capsys, Format.TABLE)


def test_rows_are_printed_as_they_come(capsys: pytest.CaptureFixture[str]) -> None:
    printed: list[str] = []

    def rows() -> Iterator[dict[str, Any]]:
        for row in ROWS:
            printed.append(capsys.readouterr().out)
            yield row

    print_rows(rows(), Format.JSON, ())
    assert json.loads(printed[1]) == ROWS[0]


@pytest.mark.parametrize(
    ("text", "milliseconds", "excluded"),
    [
        ("2026-11-22T08:00:00Z", 1795334400000, 1795334400000),
        ("2026-11-22T09:00:00.1239+01:00", 1795334400123, 1795334400124),
        ("2026-11-22", 1795305600000, 1795305600000),
    ],
)
def test_one_form_of_times(text: str, milliseconds: int, excluded: int) -> None:
    assert parse_time("--since", text) == milliseconds
    assert parse_time("--until", text, excluded=True) == excluded
    instant = parse_instant("--since", text)
    assert instant is not None
    assert round(instant.timestamp() * 1000) == milliseconds


def test_now_and_none() -> None:
    before = time.time_ns() // 1_000_000
    assert before <= (parse_time("--since", "now") or 0) <= time.time_ns() // 1_000_000
    assert parse_time("--since", None) is None


@pytest.mark.parametrize("text", ["", "7", "yesterday", "2026-11-22T08:00:00", "2026-13-01"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(CliError, match=r"--since is .* it must be a time, like 2026-11-22T08:00:00Z"):
        parse_time("--since", text)

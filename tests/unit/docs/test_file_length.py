"""No Python file is longer than CONTRIBUTING allows."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[3]
_FOLDERS = ("contracts", "projections", "services", "tests")
_MOST_LINES = 300


def _python_files() -> list[Path]:
    return [path for folder in _FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def test_no_file_has_more_than_300_lines() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in _python_files()}
    assert "contracts/message.py" in lengths, "the files are found"
    assert {name: lines for name, lines in lengths.items() if lines > _MOST_LINES} == {}

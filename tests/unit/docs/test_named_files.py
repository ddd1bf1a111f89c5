"""No document, comment or docstring names a file or a module that does not exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FOLDERS = ("contracts", "deploy", "docs", "projections", "services", "tests")
CREATED_AT_RUN_TIME = {"results.json", "connection.json", "receiver.py", "log.jsonl", "manifest.json"}
PLANNED = {"contracts/read_receipts.py", "services/domain/read_receipts.py"}
"""The example of "Add a setting" in CONTRIBUTING."""
_EXTENSION = r"(?:py|md|sql|toml|css|js|html|jsonl?)"
_NAMED = re.compile(
    rf"`((?!NNNN)\w[\w.-]*\.{_EXTENSION})`"  # a file alone, in backticks
    rf"|(?<![\w/.{{}}*<>-])((?:{'|'.join(FOLDERS)})/[\w/.-]+\.{_EXTENSION})\b"  # a path from the root
    r"|python3? -m ((?:contracts|projections|services|tests)[\w.]*\w)"
)


def _files() -> Iterator[Path]:
    yield from ROOT.glob("*.md")
    yield from (ROOT / "Makefile", ROOT / "pyproject.toml")
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".md", ".toml", ".sql") and path.name != Path(__file__).name:
                yield path


def _missing(text: str, names: set[str]) -> Iterator[str]:
    for bare, path, module in _NAMED.findall(text):
        if bare and bare not in names | CREATED_AT_RUN_TIME:
            yield bare
        if path and path not in PLANNED and not (ROOT / path).exists():
            yield path
        stem = ROOT / module.replace(".", "/")
        if module and not (stem.with_suffix(".py").exists() or (stem / "__main__.py").exists()):
            yield module


def test_every_named_file_exists() -> None:
    names = {path.name for path in ROOT.glob("*")}
    names |= {path.name for folder in FOLDERS for path in (ROOT / folder).rglob("*")}
    missing = [f"{path.relative_to(ROOT)}: {name}" for path in _files() for name in _missing(path.read_text(), names)]

    assert missing == []


@pytest.mark.parametrize("text", ["`no_such.py`", "in services/no/such.py", "python -m tests.no_such"])
def test_a_missing_file_is_found(text: str) -> None:
    assert list(_missing(text, {"decide.py"})) != []


def test_links_between_documents() -> None:
    for path in _files():
        if path.suffix == ".md":
            for target in re.findall(r"\]\((?!https?:|#)([^)#]+)\)", path.read_text()):
                assert (path.parent / target).exists(), f"{path.relative_to(ROOT)} links to {target}"


def test_a_decision_record_has_its_number_in_its_title() -> None:
    numbers = []
    for record in (ROOT / "docs" / "decisions").glob("*.md"):
        number = int(record.name.partition("-")[0])
        assert record.read_text().startswith(f"# {number}. "), record.name
        numbers.append(number)
    assert len(numbers) == len(set(numbers))

"""The README quotes what the product says; it quotes it exactly."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
_TABLE = (ROOT / "README.md").read_text().partition("## If it does not start")[2].partition("\n## ")[0]
QUOTED = [
    sentence
    for row in _TABLE.splitlines()
    if row.startswith("| ") and not row.startswith("| `kcat`")
    for sentence in re.findall(r"`([^`]+)`", row.split(" | ")[0])
]


def _text(node: ast.expr) -> str:
    """A string of the code, with ``…`` for each value in it."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(map(_text, values))
        case _:
            return "…"


@cache
def _said() -> tuple[str, ...]:
    folders = ("contracts/kafka", "services/cli", "services/domain", "services/infrastructure")
    nodes = (
        node
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.Constant, ast.JoinedStr))
    )
    return (ROOT / "Makefile").read_text(), *map(_text, nodes)


@pytest.mark.parametrize("sentence", QUOTED)
def test_the_product_says_it(sentence: str) -> None:
    pattern = re.compile(".*".join(re.escape(part) for part in sentence.split("…")))
    assert any(pattern.search(said) for said in _said())


def test_sentences_are_quoted() -> None:
    assert len(QUOTED) > 8

"""Every line of the documents that begins with `switchboard` is one that the command line takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from services.cli.main import app

ROOT = Path(__file__).parents[3]
_BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)
_LINE = re.compile(r"^(?:\w+=\S+ )*(?:\.venv/bin/)?switchboard (.*)$", re.MULTILINE)
_END = re.compile(r"^(?:\||>|;|&|\d>).*$")


def _lines() -> Iterator[str]:
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        for block in _BLOCK.findall(page.read_text()):
            yield from _LINE.findall(block.replace("\\\n", " "))


LINES = list(dict.fromkeys(_lines()))


@pytest.mark.parametrize("line", LINES)
def test_a_line(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWITCHBOARD_ACCOUNT", "acme")
    words = shlex.split(line, comments=True)
    end = next((at for at, word in enumerate(words) if _END.match(word)), len(words))
    _parse(words[:end])


def _parse(words: list[str]) -> None:
    """Raises a usage error where an argument or an option is missing or unknown."""
    command = get_command(app)
    while words and words[0] in (inner := getattr(command, "commands", {})):
        command = inner[words[0]]
        words = words[1:]
    if words not in (["-h"], ["--help"]):
        command.make_context(command.name, words).close()


def test_there_are_lines() -> None:
    assert len(LINES) > 15


def test_a_wrong_line_is_found() -> None:
    with pytest.raises(Exception, match="--chanel"):
        _parse(["send", "ToggleSms", "--chanel", "demo-whatsapp"])

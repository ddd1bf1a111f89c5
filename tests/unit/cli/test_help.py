"""Every help screen: each command and each of its arguments and options says what it is for, in the same form, and
its examples are lines that the command line takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

from services.cli.main import app


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands(inner, (*path, name))


ALL = dict(_commands(get_command(app), ("switchboard",)))


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_a_screen(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    command = ALL[path]
    with pytest.raises(SystemExit) as ended:
        command.main(["--help"], prog_name=" ".join(path))

    shown = capsys.readouterr().out
    assert ended.value.code == 0
    assert f"Usage: {' '.join(path)} [OPTIONS]" in shown
    sentence = " ".join(command.help.partition("\n\n")[0].split())
    assert sentence[0].isupper()
    assert sentence.endswith(".")
    assert "``" not in shown
    assert "--no-" not in shown  # a flag that is off needs no second name for it
    for parameter in command.params:
        if not getattr(parameter, "hidden", False):
            assert parameter.help, f"{parameter.name} has no help"
            said = parameter.help
            assert not said.endswith(".") or said.startswith("Show") or parameter.name.endswith("completion"), said
    for name in getattr(command, "commands", {}):
        assert name in shown


EXAMPLES = [
    shlex.split(line)
    for command in ALL.values()
    for line in re.findall(r"^(?:\w+=\S+ )*(switchboard .*)$", command.epilog or "", re.MULTILINE)
]


@pytest.mark.parametrize("words", EXAMPLES, ids=" ".join)
def test_an_example(words: list[str]) -> None:
    path = tuple(words[: 3 if tuple(words[:3]) in ALL else 2])
    ALL[path].make_context(path[-1], words[len(path) :]).close()  # raises a usage error


def test_there_are_examples() -> None:
    assert {words[1] for words in EXAMPLES} >= {"up", "send", "invoke", "follow", "audit", "messages"}

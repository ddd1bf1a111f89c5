"""CONTRIBUTING names every module that handles the events of its table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.message_types import COMMANDS, EVENTS
from contracts.section import SectionEvent

ROOT = Path(__file__).parents[3]
COMMANDS_OF_THE_WALK = (
    "AddIntent",
    "ToggleSms",
    "SaveOtpScheduling",
    "SaveSpendGuard",
    "SaveApprovals",
    "DeclineChange",
    "DisableBusinessSystem",
    "RefreshSignature",
)

EXAMPLES = "services/gateway/asyncapi/examples.py"
"""It names every message, and so it is said once, below the table."""


def _row(command: str) -> list[str]:
    """The cells of the command's row."""
    page = (ROOT / "CONTRIBUTING.md").read_text()
    [row] = re.findall(rf"^\| `{command}` \|.*\|$", page, re.MULTILINE)
    return [cell.strip() for cell in row.strip("|").split("|")]


def _in_backticks(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def _modules_that_name(word: str, *folders: str) -> Iterator[str]:
    """Python and SQL files that have it as a word, as a class or as a type string."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".sql") and re.search(rf"\b{word}\b", path.read_text()):
                yield str(path.relative_to(ROOT))


@pytest.mark.parametrize("command", COMMANDS_OF_THE_WALK)
def test_every_reader_of_an_event_is_in_its_row(command: str) -> None:
    _, contract, rules, events, readers = _row(command)
    named = {*_in_backticks(contract), *_in_backticks(rules), *_in_backticks(readers)}
    words = set(_in_backticks(events))
    if any(issubclass(EVENTS[word], SectionEvent) for word in words):
        words.add(SectionEvent.__name__)
    mentioned = {module for word in words for module in _modules_that_name(word, "services", "projections")}

    assert mentioned - {EXAMPLES} <= named, "add the missing reader to its row in CONTRIBUTING"
    assert set(_in_backticks(readers)) <= mentioned, "remove the module from its row in CONTRIBUTING"


@pytest.mark.parametrize("command", COMMANDS_OF_THE_WALK)
def test_a_row_names_messages_that_exist(command: str) -> None:
    _, contract, _, events, _ = _row(command)
    [path] = _in_backticks(contract)
    module = path.removesuffix(".py").replace("/", ".")

    assert COMMANDS[command].__module__ == module
    assert {EVENTS[event].__module__ for event in _in_backticks(events)} == {module}

"""Counts agree with their nouns."""

from __future__ import annotations

from services.cli.wording import count


def test_counts() -> None:
    assert [count(number, "command") for number in (0, 1, 2, 1_000)] == [
        "0 commands",
        "1 command",
        "2 commands",
        "1,000 commands",
    ]
    assert [count(number, "entry", "entries") for number in (0, 1, 2)] == ["0 entries", "1 entry", "2 entries"]

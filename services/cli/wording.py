"""Words that are alike in all commands: counts that agree with their nouns, and the examples of help screens."""

from __future__ import annotations


def count(number: int, noun: str, plural: str | None = None) -> str:
    """The number with its noun, as "1 command", "2 commands" or "1,000 entries"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def examples(*lines: str) -> str:
    """The end of a help screen: each line on its own."""
    return "\n\n".join(("For example:", *lines))

"""The size of a regular expression with its counted repetitions written out, which bounds what it costs."""

from __future__ import annotations

import re

UNICODE_CLASS_ATOMS = 100
"""What ``\\p{L}`` counts for: it compiles to as much as this many simple atoms."""

_COUNTED = re.compile(r"\{(\d{1,9})(?:,(\d{0,9}))?\}")


def atoms(pattern: str) -> int:
    """Characters and classes, each as often as its repetitions multiply it; rather too many than too few."""
    totals, last = [0], [0]  # of each open group, and of the last item in it
    at = 0
    while at < len(pattern):
        character = pattern[at]
        counted = _COUNTED.match(pattern, at) if character == "{" else None
        if counted is not None:
            times = max(int(counted[1]), int(counted[2] or 0), 1)
            totals[-1] += last[-1] * (times - 1)
            last[-1] *= times
            at = counted.end()
            continue
        if character == "(":
            totals.append(0)
            last.append(0)
        elif character == ")" and len(totals) > 1:
            inside = totals.pop() + 1
            last.pop()
            totals[-1] += inside
            last[-1] = inside
        else:
            size, at = _item(pattern, at)
            totals[-1] += size
            last[-1] = size
            continue
        at += 1
    return sum(totals)


def _item(pattern: str, at: int) -> tuple[int, int]:
    """The atoms of the character, escape or class at ``at``, and the position after it."""
    if pattern[at] == "\\":
        if pattern[at + 1 : at + 2] not in ("p", "P"):
            return 1, at + 2
        named = pattern[at + 2 : at + 3] == "{"
        end = pattern.find("}", at) if named else at + 2
        return UNICODE_CLASS_ATOMS, (len(pattern) if end < 0 else end + 1)
    if pattern[at] != "[":
        return 1, at + 1
    end = at + 1
    while end < len(pattern) and pattern[end] != "]":
        end += 2 if pattern[end] == "\\" else 1
    content = pattern[at:end]
    return 1 + UNICODE_CLASS_ATOMS * (content.count("\\p") + content.count("\\P")), end + 1

"""Compares JSON values: 1, 1.0 and true are three."""

from __future__ import annotations

from typing import Any


def same(one: Any, other: Any) -> bool:
    """Equal as JSON: to Python, 1 and true are equal too."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def difference(shown: Any, expected: Any, path: str = "") -> str | None:
    """The first place where two JSON values differ; None where they are equal."""
    if isinstance(shown, dict) and isinstance(expected, dict):
        for name in sorted(shown.keys() | expected.keys()):
            if name not in shown or name not in expected:
                return f"{path}/{name} is {'missing' if name not in shown else 'there, and should not be'}"
            if found := difference(shown[name], expected[name], f"{path}/{name}"):
                return found
        return None
    if isinstance(shown, list) and isinstance(expected, list) and len(shown) == len(expected):
        for number, (one, other) in enumerate(zip(shown, expected, strict=True)):
            if found := difference(one, other, f"{path}/{number}"):
                return found
        return None
    return None if same(shown, expected) else f"{path} is {shown!r}, not {expected!r}"

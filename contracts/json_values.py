"""Comparing JSON values, and finding what JSON's grammar allows but no record can hold."""

from __future__ import annotations

import json
from math import isfinite

from pydantic_core import from_json, to_json


class JsonUnreadable(ValueError):
    """A text is not JSON, or holds what cannot be kept. The message is a clause without the input."""


def parse_json(text: bytes | str) -> object:
    """Parses JSON in UTF-8. Raises `JsonUnreadable`, with the field of a number or a text that cannot be kept."""
    if text[:3] == b"\xef\xbb\xbf" or text[:1] == "\ufeff":
        raise JsonUnreadable("it starts with a byte order mark; send UTF-8 without one")
    try:
        value = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        try:
            value = json.loads(text, parse_int=float)  # takes half surrogate pairs and long numbers
        except (ValueError, RecursionError):
            value = None
        raise JsonUnreadable(unkeepable(value) or f"it is not JSON: {error}") from None
    if (problem := unkeepable(value)) is not None:
        raise JsonUnreadable(problem)
    return value


def unkeepable(value: object) -> str | None:
    """A clause that names the first field of a JSON value that no record can hold; None where there is none."""
    if _is_surely_keepable(value):
        return None
    left: list[tuple[str, object]] = [("", value)]
    while left:
        path, found = left.pop()
        if isinstance(found, dict):
            if any(map(_has_lone_surrogate, found)):
                return f"a name in {path or 'it'!r} has half of a surrogate pair, which is no character"
            left += [(f"{path}.{name}".removeprefix("."), below) for name, below in reversed(found.items())]
        elif isinstance(found, list):
            left += [(f"{path}.{number}", below) for number, below in reversed(list(enumerate(found)))]
        elif isinstance(found, str) and _has_lone_surrogate(found):
            return f"{path[:_LONGEST_PATH]!r} has half of a surrogate pair, which is no character"
        elif isinstance(found, float) and not isfinite(found):
            return f"{path[:_LONGEST_PATH]!r} is a number beyond 1.8e308, which no double holds"
    return None


_LONGEST_PATH = 200


def _is_surely_keepable(value: object) -> bool:
    """A quick check, many times as quick as a walk through a large value; False says nothing."""
    try:
        written = to_json(value)
    except ValueError:
        return False
    return b"NaN" not in written and b"Infinity" not in written


def _has_lone_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def same_json(left: object, right: object) -> bool:
    """Whether both are the same JSON value. Python's ``==`` is not enough: to it, 1, 1.0 and true are equal."""
    if left is right:
        return True
    if left != right:
        return False
    if isinstance(left, dict) and isinstance(right, dict):
        return all(map(same_json, left.values(), map(right.__getitem__, left)))
    if isinstance(left, list) and isinstance(right, list):
        return all(map(same_json, left, right))
    return type(left) is type(right)

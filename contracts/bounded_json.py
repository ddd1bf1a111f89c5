"""JSON objects of limited size and depth."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from pydantic import AfterValidator
from pydantic_core import to_json


def compact_json(value: object) -> str:
    """``value`` as JSON without spaces; raises ValueError on NaN and infinities, which JSON does not have."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


MAX_JSON_DEPTH = 100
"""The most levels of nesting. pydantic's parser takes 200, and records nest the JSON of a command deeper."""


_CONTAINERS = (dict, list)


def _is_deeper(value: object, levels: int) -> bool:
    level = [value] if isinstance(value, _CONTAINERS) else []
    for _ in range(levels):
        level = [one for above in level for one in _members(above) if isinstance(one, _CONTAINERS)]
        if not level:
            return False
    return bool(level)


def _members(container: Any) -> Iterable[Any]:
    return container.values() if isinstance(container, dict) else container


def _is_surely_small(value: object, limit: int) -> bool:
    """A quick check: True only for JSON far below the limit in bytes; False says nothing.

    `compact_json` may write a number longer than pydantic does, but not three times as long.
    """
    try:
        written = to_json(value)
    except ValueError:
        return False
    return len(written) * 3 < limit and b"NaN" not in written and b"Infinity" not in written


def max_json_bytes(limit: int) -> AfterValidator:
    """Validates that a JSON object has at most ``limit`` bytes as `compact_json`, and `MAX_JSON_DEPTH` levels."""

    def check(value: dict[str, Any]) -> dict[str, Any]:
        if _is_deeper(value, MAX_JSON_DEPTH):
            raise ValueError(f"it is nested more than {MAX_JSON_DEPTH} levels deep")
        if _is_surely_small(value, limit):
            return value
        try:
            size = len(compact_json(value).encode())
        except ValueError:
            raise ValueError("it must be JSON that has no NaN, no infinities and no lone surrogates") from None
        if size > limit:
            raise ValueError(f"it is {size:,} bytes as compact JSON; at most {limit:,} are allowed")
        return value

    return AfterValidator(check)

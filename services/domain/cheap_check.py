"""Which checks of data against a schema are surely cheap, told from the counts of both without an estimate."""

from __future__ import annotations

from typing import Any

STEPS_LIMIT = 2_000
"""The schema's values times the data's: some 2 ms at most, and mostly 0.1 ms."""

_SCHEMA_VALUES_LIMIT = 300
_SURELY_LINEAR = frozenset(
    (
        *("type", "properties", "required", "additionalProperties", "items", "enum", "const"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength"),
        *("minItems", "maxItems", "minProperties", "maxProperties"),
        *("title", "description", "default", "examples", "$schema", "$comment", "format"),
    )
)
"""Without references, each of these looks at each value of the data once at most for each value that it has."""


def is_surely_cheap(schema: dict[str, Any], data: object) -> bool:
    """False says nothing."""
    size = _values(schema, _SCHEMA_VALUES_LIMIT)
    if size is None:
        return False
    return _values(data, STEPS_LIMIT // size) is not None and _is_linear(schema)


def _values(value: object, limit: int) -> int | None:
    """How many values there are in a JSON value, itself included; None if there are more than the limit."""
    total, waiting = 0, [value]
    while waiting:
        if total + len(waiting) > limit:
            return None
        found = waiting.pop()
        total += 1
        if isinstance(found, dict):
            waiting.extend(found.values())
        elif isinstance(found, list):
            waiting.extend(found)
    return total


def _is_linear(schema: object) -> bool:
    waiting = [schema]
    while waiting:
        found = waiting.pop()
        if not isinstance(found, dict):
            continue
        if not found.keys() <= _SURELY_LINEAR:
            return False
        waiting.extend(found[name] for name in ("items", "additionalProperties") if name in found)
        properties = found.get("properties")
        if isinstance(properties, dict):
            waiting.extend(properties.values())
    return True

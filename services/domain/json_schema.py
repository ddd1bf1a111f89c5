"""The JSON Schema (2020-12) of an intent's default data: whether it can be used, and whether data satisfies it.

Whoever may add an intent writes the schema, and it is judged inside a decision, so its cost must be bounded: references
are never fetched and lead nowhere but down, patterns run in linear time, and the schema unfolded is small.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeGuard
from urllib.parse import unquote

import jsonschema_rs

UNFOLDED_LIMIT = 5_000
"""As many steps one value may need, references unfolded; 16 KiB without references need fewer."""

DEEPEST = 100
"""As many levels a schema may have, references unfolded."""

_UNEVALUATED = ("unevaluatedProperties", "unevaluatedItems")
_UNEVALUATED_FACTOR = 4
"""Each of these keywords works through everything beside it again."""

_MAPS_OF_SCHEMAS = ("properties", "patternProperties", "dependentSchemas", "dependencies")
_NO_SCHEMAS_INSIDE = ("$defs", "definitions", "const", "enum", "default", "examples")
_WRONG_REFERENCE = "only references of the form #/$defs/name can be used"
_DYNAMIC = ("$dynamicRef", "$recursiveRef")


class SchemaUnusable(Exception):
    """The schema cannot be used; a clause says why."""


def problem_of_data(schema: dict[str, Any], data: object) -> str | None:
    """Why ``data`` does not satisfy ``schema``, as a clause; None where it does. Raises `SchemaUnusable`."""
    _Unfolding(schema).check()
    try:
        validator = jsonschema_rs.Draft202012Validator(
            schema,
            mask="the value",  # a message that repeats data of any length helps nobody
            offline=True,
            pattern_options=jsonschema_rs.RegexOptions(),
        )
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        raise SchemaUnusable(_clause(error)) from None
    try:
        validator.validate(data)
    except (jsonschema_rs.ValidationError, ValueError) as error:
        return _clause(error)
    return None


def _clause(error: Exception) -> str:
    message = getattr(error, "message", None) or str(error)
    return str(message).splitlines()[0][:300].rstrip(".")


class _Unfolding:
    """Counts the steps of a schema as if every reference were replaced by what it refers to."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._costs: dict[str, int] = {}
        self._under_way: set[str] = set()

    def check(self) -> None:
        if self._cost(self._root, 0) > UNFOLDED_LIMIT:
            raise SchemaUnusable(f"with its references unfolded it takes more than {UNFOLDED_LIMIT:,} steps")

    def _cost(self, schema: object, depth: int) -> int:
        if not _is_object(schema):
            return 1
        if depth > DEEPEST:
            raise SchemaUnusable(f"with its references unfolded it is more than {DEEPEST} levels deep")
        self._refuse_other_references(schema)
        cost = 1
        for below in _schemas_in(schema):
            cost += self._cost(below, depth + 1)
        reference = schema.get("$ref")
        if isinstance(reference, str):
            cost += self._cost_of_reference(reference, depth + 1)
        return cost * _UNEVALUATED_FACTOR if any(name in schema for name in _UNEVALUATED) else cost

    def _refuse_other_references(self, schema: dict[str, Any]) -> None:
        """An ``$id`` inside would change what the references below it are relative to."""
        if any(name in schema for name in _DYNAMIC) or ("$id" in schema and schema is not self._root):
            raise SchemaUnusable(_WRONG_REFERENCE)

    def _cost_of_reference(self, reference: str, depth: int) -> int:
        if reference in self._under_way:
            raise SchemaUnusable("its references lead in a circle")
        if reference not in self._costs:
            self._under_way.add(reference)
            self._costs[reference] = self._cost(self._target(reference), depth)
            self._under_way.discard(reference)
        return self._costs[reference]

    def _target(self, reference: str) -> object:
        pointer = unquote(reference.removeprefix("#"))
        if not reference.startswith("#") or (pointer and not pointer.startswith("/")):
            raise SchemaUnusable(_WRONG_REFERENCE)
        found: object = self._root
        for step in pointer.split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if _is_object(found):
                self._refuse_other_references(found)
            if _is_object(found) and name in found:
                found = found[name]
            elif isinstance(found, list) and name.isascii() and name.isdigit() and int(name) < len(found):
                found = found[int(name)]
            else:
                raise SchemaUnusable("a reference leads to nothing")
        return found


def _schemas_in(schema: dict[str, Any]) -> Iterator[object]:
    """What may be a schema directly below; too much rather than too little."""
    for keyword, value in schema.items():
        if keyword in _MAPS_OF_SCHEMAS and _is_object(value):
            yield from value.values()
        elif keyword not in _NO_SCHEMAS_INSIDE and isinstance(value, list):
            yield from value
        elif keyword not in _NO_SCHEMAS_INSIDE:
            yield value


def _is_object(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)

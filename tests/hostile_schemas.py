"""Schemas with data: what would take long to check, and what customers write."""

from __future__ import annotations

from typing import Any

OBJECTS = [{"a": number} for number in range(1000)]
ITEMS = [{"a": -1}] * 400


def references_to_enum(count: int, members: int = 1000) -> tuple[dict[str, Any], list[Any]]:
    """``count`` references to an ``enum`` of objects, over 400 items; each item is compared with every member."""
    reference = {"not": {"$ref": "#/$defs/e"}}
    return {"$defs": {"e": {"enum": OBJECTS[:members]}}, "items": {"allOf": [reference] * count}}, ITEMS


def doubling(combine: str, levels: int) -> dict[str, Any]:
    """Each level refers to the next one twice."""
    below = {f"l{at}": {combine: [{"$ref": f"#/$defs/l{at + 1}"}] * 2} for at in range(levels)}
    return {"$defs": below | {f"l{levels}": {"type": "string"}}, "$ref": "#/$defs/l0"}


def members_of_items(keyword: str, count: int) -> list[Any]:
    return [{"pattern": "ab" * 50, "multipleOf": 12.5}.get(keyword, {"a": -1})] * count


def _negated(count: int, pattern: str) -> dict[str, Any]:
    return {"allOf": [{"not": {"pattern": f"{pattern}{number}"}} for number in range(count)]}


def _named(count: int) -> dict[str, int]:
    return {f"r{number}": 0 for number in range(count)}


HOSTILE: dict[str, tuple[dict[str, Any], Any]] = {
    "ten references to an enum": references_to_enum(10),
    "eighty references to an enum": references_to_enum(80),
    "an enum of objects": ({"items": {"not": {"enum": OBJECTS}}}, ITEMS),
    "an enum of fractions": ({"items": {"not": {"enum": [n + 0.5 for n in range(2000)]}}}, [-1] * 1000),
    "an enum under contains": ({"contains": {"enum": OBJECTS}}, ITEMS),
    "an enum in errors": ({"anyOf": [{"items": {"enum": [f"s{n}" for n in range(1500)]}}]}, ["x"] * 800),
    "constants": (
        {"items": {"allOf": [{"not": {"const": [[0] * 5, n + 0.5]}} for n in range(300)]}},
        [[[0] * 5, 1]] * 200,
    ),
    "many uniqueItems": ({"allOf": [{"uniqueItems": True}] * 500}, [[n + 0.5] for n in range(700)]),
    "names against an enum": (
        {"propertyNames": {"not": {"enum": [1, *(f"p{n}" for n in range(1400))]}}},
        _named(400),
    ),
    "multiples of tiny numbers": ({"items": {"allOf": [{"multipleOf": 1e-300}] * 300}}, [1e308] * 400),
    "doubling anyOf": (doubling("anyOf", 13), 1),
    "doubling oneOf": (doubling("oneOf", 13), 1),
    "patterns of many states": (_negated(300, "[ab]*a[ab]{400}c"), "abaab" * 800),
    "patterns that repeat groups": (_negated(300, "((a|b|\\w)*c){20}"), "abc" * 1300),
    "patterns that are long to compile": (_negated(300, "\\p{L}{30}"), "x"),
    "patterns of classes": (_negated(300, "[^a]{300}b"), "x"),
    "patterns of names": (
        {
            "patternProperties": {f"[b-c].*[x-z]{n}": {} for n in range(500)},
            "additionalProperties": {"type": "integer"},
        },
        {f"abababab{n}": 1 for n in range(250)},
    ),
    "unevaluated members": (
        {"allOf": [{"properties": {f"r{n}": True}} for n in range(500)], "unevaluatedProperties": False},
        _named(500),
    ),
}

_FORM = {
    "type": "object",
    "properties": {
        f"f{n}": {"type": "string", "maxLength": 100, "description": "A field", "enum": ["a", "b", "c"]}
        for n in range(100)
    },
    "required": [f"f{n}" for n in range(100)],
}
_FILLED = {f"f{n}": "a" for n in range(100)}
_COUNTRIES = [f"C{n}" for n in range(250)]

LEGITIMATE: dict[str, tuple[dict[str, Any], Any]] = {
    "a form of a hundred fields": (_FORM | {"additionalProperties": False}, _FILLED),
    "a closed form": (_FORM | {"unevaluatedProperties": False}, _FILLED),
    "a list of countries": (
        {"properties": {"countries": {"type": "array", "uniqueItems": True, "items": {"enum": _COUNTRIES}}}},
        {"countries": _COUNTRIES},
    ),
    "addresses": (
        {
            "properties": {
                "to": {"type": "array", "items": {"type": "string", "pattern": r"^[^@\s]{1,64}@[^@\s]{1,255}$"}}
            }
        },
        {"to": [f"anna{n}@crm.example" for n in range(150)]},
    ),
    "a thousand ids": ({"items": {"type": "integer", "minimum": 0}, "uniqueItems": True}, list(range(1000))),
    "prices": ({"items": {"type": "number", "multipleOf": 0.01}}, [n + 0.25 for n in range(300)]),
    "one of twenty kinds": (
        {
            "items": {
                "oneOf": [
                    {"properties": {"kind": {"const": f"k{n}"}, "text": {"type": "string"}}, "required": ["kind"]}
                    for n in range(20)
                ]
            }
        },
        [{"kind": "k3", "text": "x"}] * 100,
    ),
    "many rows, as long as a call may have them": (
        {
            "items": {
                "properties": {name: {"type": "string", "maxLength": 50} for name in "abcdef"},
                "required": list("abcdef"),
                "additionalProperties": False,
            }
        },
        [dict.fromkeys("abcdef", "xyz")] * 4000,
    ),
    "many countries": ({"items": {"enum": _COUNTRIES}}, ["C7"] * 40_000),
    "names in any script": (
        {"additionalProperties": {"type": "string"}, "propertyNames": {"pattern": r"^\p{L}{1,64}$"}},
        {"a" * (n + 1): "x" for n in range(50)},
    ),
}

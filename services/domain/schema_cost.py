"""Estimates how long it takes to check data against a JSON Schema, from the counts of both.

Each keyword counts as often as there is data at the level that it may be applied to, as if every reference were
replaced by its target. The figures are about three times what jsonschema-rs 0.60 takes on one core of 2026;
`tests/bench/schema_checks.py` compares both.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from services.domain.data_profile import NOTHING, Level, profile
from services.domain.pattern_cost import atoms
from services.domain.schema_references import SchemaUnusable, is_object, referenced, refuse_other_references
from services.domain.unique_items_cost import unique_items_us

CHECK_BUDGET_MS = 50
DEPTH_LIMIT = 100
"""The levels that a schema may have, with references expanded."""
WALK_LIMIT = 20_000
"""The subschemas that the estimate itself looks at; a schema of 16 KiB has at most 5,000, without references."""

# Microseconds.
COMPILED_SUBSCHEMA = 1.5
COMPILED_PATTERN, COMPILED_ATOM = 60.0, 4.0
KEYWORD = 0.03
VALUE = 0.1
TEXT_COMPARISON, NUMBER_COMPARISON, CONTAINER_COMPARISON = 0.1, 3.0, 1.0
NAME_LOOKUP = 0.1
MULTIPLE_OF = 80.0
MATCHED_CHARACTER, MATCHED_ATOM = 0.05, 0.002
"""Of a text against a pattern: per character, and per character and atom."""
ERROR = 3.0
"""Below ``anyOf`` and ``oneOf`` each failure becomes an error, which is copied at each of their levels."""
COPIED_MEMBER = 0.5
"""Of an ``enum``, in an error."""

_UNEVALUATED = ("unevaluatedProperties", "unevaluatedItems")
_UNEVALUATED_FACTOR, _UNEVALUATED_MEMBER = 4, 0.01
"""Each of these keywords evaluates its sibling keywords again, and looks up each member in what they evaluated."""

_IN_PLACE = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "dependencies")
_ALTERNATIVES = ("anyOf", "oneOf")
_MAPS_OF_SCHEMAS = ("properties", "patternProperties", "dependentSchemas", "dependencies")
_NO_SCHEMAS_INSIDE = ("$defs", "definitions", "const", "enum", "default", "examples")


def estimated_ms(schema: dict[str, Any], data: object) -> float:
    """The milliseconds that a check takes, rather too many than too few. Raises `SchemaUnusable`."""
    levels = profile(data)
    microseconds = _Estimate(schema, levels).cost(schema, _Place()) + VALUE * sum(level.values for level in levels)
    return microseconds / 1000


class _Place(NamedTuple):
    """Where a subschema is applied: the level of the data, how many of its values at most, how many subschemas and
    alternatives are around it, and for how many values errors are built. A check ends at its first error, but looks
    for all that are below an alternative."""

    level: int = 0
    values: int = 1
    around: int = 0
    alternatives: int = 0
    failures: int = 0

    def inside(self, keyword: str) -> _Place:
        if keyword not in _ALTERNATIVES:
            return self._replace(around=self.around + 1)
        failures = self.failures or min(self.values, 1)
        return _Place(self.level, self.values, self.around + 1, self.alternatives + 1, failures)

    def below(self, count: int, *, each_once: bool) -> _Place:
        """``each_once``: of each value, one value below at most, as with ``properties``."""
        failures = min(self.failures, count) if each_once or not self.failures else count
        return _Place(self.level + 1, count, self.around + 1, self.alternatives, failures)


class _Estimate:
    """Walks through a schema once for each place where it is applied; a reference is looked at once for each."""

    def __init__(self, root: dict[str, Any], levels: list[Level]) -> None:
        self._root, self._levels = root, levels
        self._costs: dict[tuple[str, _Place], float] = {}
        self._unique_items: dict[int, float] = {}
        self._open_references: set[str] = set()
        self._walked = 0

    def cost(self, schema: object, place: _Place) -> float:
        self._walked += 1
        if self._walked > WALK_LIMIT:
            raise SchemaUnusable(f"with its references unfolded it has more than {WALK_LIMIT:,} parts")
        own = COMPILED_SUBSCHEMA + KEYWORD * place.values + ERROR * place.alternatives * place.failures
        if not is_object(schema):
            return own
        if place.around > DEPTH_LIMIT:
            raise SchemaUnusable(f"with its references unfolded it is more than {DEPTH_LIMIT} levels deep")
        refuse_other_references(schema, self._root)
        total = own + sum(self._cost_of_keyword(name, value, place) for name, value in schema.items())
        if any(name in schema for name in _UNEVALUATED):
            members = self._level(place.level + 1).values if place.values else 0
            total *= _UNEVALUATED_FACTOR * (1 + _UNEVALUATED_MEMBER * members)
        return total

    def _cost_of_keyword(self, keyword: str, value: object, place: _Place) -> float:
        if keyword == "$ref" and isinstance(value, str):
            return self._cost_of_reference(value, place.inside(keyword))
        return (
            COMPILED_SUBSCHEMA
            + KEYWORD * place.values
            + self._own_cost(keyword, value, place)
            + self._cost_of_subschemas(keyword, value, place)
        )

    def _own_cost(self, keyword: str, value: object, place: _Place) -> float:
        level = self._level(place.level)
        cost = 0.0
        match keyword:
            case "enum" | "const":
                compared = value if keyword == "enum" and isinstance(value, list) else [value]
                hashed = len(compared) > 1 and all(isinstance(one, str) for one in compared)
                comparisons = TEXT_COMPARISON if hashed else sum(map(_comparison, compared))
                cost = place.values * comparisons + place.failures * COPIED_MEMBER * len(compared)
            case "required" | "dependentRequired" | "dependencies" | "properties" | "dependentSchemas":
                cost = place.values * NAME_LOOKUP * _names(value)
            case "multipleOf":
                cost = MULTIPLE_OF * min(place.values, level.numbers)
            case "uniqueItems" if value is True and place.values:
                cost = self._cost_of_unique_items(place.level)
            case "pattern" if isinstance(value, str):
                cost = _matching(value, level.characters if place.values else 0, place.values)
            case "patternProperties" if is_object(value):
                keys, characters = level.keys.total(), level.key_characters
                cost = sum(_matching(one, characters, keys) if place.values else _matching(one, 0, 0) for one in value)
        return cost

    def _cost_of_subschemas(self, keyword: str, value: object, place: _Place) -> float:
        if keyword in _NO_SCHEMAS_INSIDE:
            return 0.0
        if keyword in _IN_PLACE:
            inside = place.inside(keyword)
            return sum(self.cost(one, inside) for one in _schemas(keyword, value))
        level, below = self._level(place.level), self._level(place.level + 1)
        if keyword == "properties" and is_object(value):
            applied = [(one, min(place.values, level.keys[name])) for name, one in value.items()]
            return sum(self.cost(one, place.below(values, each_once=True)) for one, values in applied)
        each_once = keyword == "prefixItems"
        count = min(place.values, below.values) if each_once else below.values
        if keyword == "propertyNames":
            count = level.keys.total()
        deeper = place.below(count if place.values else 0, each_once=each_once)
        if keyword == "propertyNames":  # keys are no values of a level: counted as if they were
            return self._cost_of_names(value, level, deeper)
        return sum(self.cost(one, deeper) for one in _schemas(keyword, value))

    def _cost_of_names(self, value: object, level: Level, place: _Place) -> float:
        texts = Level(values=level.keys.total(), characters=level.key_characters)
        return _Estimate(self._root, [*[NOTHING] * place.level, texts]).cost(value, place)

    def _cost_of_reference(self, reference: str, place: _Place) -> float:
        if reference in self._open_references:
            raise SchemaUnusable("its references lead in a circle")
        known = self._costs.get((reference, place))
        if known is None:
            self._open_references.add(reference)
            known = self._costs[reference, place] = self.cost(referenced(reference, self._root), place)
            self._open_references.discard(reference)
        return known

    def _cost_of_unique_items(self, level: int) -> float:
        if level not in self._unique_items:
            self._unique_items[level] = sum(map(unique_items_us, self._level(level).lists))
        return self._unique_items[level]

    def _level(self, level: int) -> Level:
        return self._levels[level] if level < len(self._levels) else NOTHING


def _schemas(keyword: str, value: object) -> list[object]:
    """The values directly below that may be schemas; rather too many than too few."""
    if keyword in _MAPS_OF_SCHEMAS and is_object(value):
        return list(value.values())
    return value if isinstance(value, list) else [value]


def _names(value: object) -> int:
    if is_object(value):
        return len(value) + sum(len(one) for one in value.values() if isinstance(one, list))
    return len(value) if isinstance(value, list) else 0


def _comparison(member: object) -> float:
    """Comparing a value with a member of an ``enum``, in full."""
    if isinstance(member, (list, dict)):
        values = member.values() if isinstance(member, dict) else member
        return CONTAINER_COMPARISON + sum(map(_comparison, values))
    if isinstance(member, (int, float)) and not isinstance(member, bool):
        return NUMBER_COMPARISON
    return TEXT_COMPARISON


def _matching(pattern: str, characters: int, texts: int) -> float:
    size = atoms(pattern)
    compiled = COMPILED_PATTERN + COMPILED_ATOM * size
    return compiled + (characters + texts) * (MATCHED_CHARACTER + MATCHED_ATOM * size)

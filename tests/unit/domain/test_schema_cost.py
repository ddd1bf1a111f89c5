"""The estimate of a check counts every keyword as often as there is data for it, so that no schema stops a service."""

from __future__ import annotations

from typing import Any

import pytest

from services.domain.cheap_check import is_surely_cheap
from services.domain.json_schema import check_data
from services.domain.pattern_cost import atoms
from services.domain.schema_cost import CHECK_BUDGET_MS, WALK_LIMIT, estimated_ms
from services.domain.schema_references import SchemaUnusable
from tests.hostile_schemas import HOSTILE, LEGITIMATE, OBJECTS, doubling, members_of_items, references_to_enum


@pytest.mark.timeout(10)
@pytest.mark.parametrize(("schema", "data"), HOSTILE.values(), ids=list(HOSTILE))
def test_what_takes_long_is_refused_with_cost_and_limit(schema: dict[str, Any], data: object) -> None:
    assert not is_surely_cheap(schema, data)
    assert estimated_ms(schema, data) > CHECK_BUDGET_MS

    outcome, reason = check_data(schema, data)

    assert outcome == "unusable-schema"
    assert f"at most {CHECK_BUDGET_MS} ms are allowed" in reason


@pytest.mark.parametrize(("schema", "data"), LEGITIMATE.values(), ids=list(LEGITIMATE))
def test_what_customers_write_is_within_the_budget(schema: dict[str, Any], data: object) -> None:
    assert estimated_ms(schema, data) < CHECK_BUDGET_MS
    assert check_data(schema, data).outcome == "valid"


def test_a_reference_counts_as_often_as_it_applies() -> None:
    one, ten = (estimated_ms(*references_to_enum(count, 100)) for count in (1, 10))

    assert 9 < ten / one < 11


@pytest.mark.parametrize("keyword", ["enum", "const", "required", "dependentRequired", "pattern", "multipleOf"])
def test_a_keyword_counts_for_each_value(keyword: str) -> None:
    value: Any = {
        "enum": OBJECTS[:500],
        "const": OBJECTS[:500],
        "required": [f"r{number}" for number in range(500)],
        "dependentRequired": {f"r{number}": ["a"] for number in range(500)},
        "pattern": "(a|b)*c{100}",
        "multipleOf": 0.1,
    }[keyword]
    few, many = (estimated_ms({"items": {keyword: value}}, members_of_items(keyword, count)) for count in (40, 400))

    assert 4 < many / few < 11


def test_a_schema_is_counted_although_there_is_no_data_for_it() -> None:
    assert estimated_ms({"properties": {"absent": {"pattern": "\\p{L}{500}"}}}, {}) > CHECK_BUDGET_MS


def test_the_estimate_itself_is_bounded() -> None:
    wide = {"allOf": [{"type": "string"}] * 600}
    levels = {f"l{at}": {"properties": {"a": {"$ref": f"#/$defs/l{at + 1}"}}, "items": wide} for at in range(40)}

    with pytest.raises(SchemaUnusable, match=f"{WALK_LIMIT:,} parts"):
        estimated_ms({"$defs": levels | {"l40": {}}, "$ref": "#/$defs/l0"}, {})


def test_what_is_surely_cheap_has_few_values_and_no_keyword_that_multiplies() -> None:
    form = {"properties": {"order": {"type": "string", "enum": ["a", "b"]}}, "required": ["order"]}

    assert is_surely_cheap(form, {"order": "a"})
    assert not is_surely_cheap(form, {"order": list(range(1000))})
    assert not is_surely_cheap({"enum": list(range(1000))}, {})
    assert not is_surely_cheap({"properties": {"order": {"pattern": "a"}}}, {"order": "a"})
    assert not is_surely_cheap({"items": {"uniqueItems": True}}, {})
    assert not is_surely_cheap(doubling("allOf", 3), {})


@pytest.mark.parametrize(
    ("pattern", "count"),
    [("abc", 3), ("a{10}", 10), ("(ab){10}", 30), ("((a{10}){10}){10}", 1110), ("[a-z]{2,5}x", 6), ("\\d{4}", 4)],
)
def test_repetitions_of_a_pattern_are_written_out(pattern: str, count: int) -> None:
    assert atoms(pattern) == count


@pytest.mark.parametrize(
    "pattern", ["(", ")", "[", "[\\", "\\", "{", "a{", "\\p{", "a{,3}", "{3}", "(?i", "a)b)c", "]"]
)
def test_a_pattern_that_is_none_is_counted_all_the_same(pattern: str) -> None:
    assert 0 <= atoms(pattern) <= 200

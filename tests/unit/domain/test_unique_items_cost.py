"""The estimate of ``uniqueItems``, compared with the processor time that a check takes."""

from __future__ import annotations

import time
from typing import Any

import jsonschema_rs
import pytest

from services.domain.schema_cost import estimated_ms
from services.domain.unique_items_cost import unique_items_us


def _trees(count: int) -> list[list[Any]]:
    """Lists of nothing but lists, all different."""
    found: dict[str, list[Any]] = {"[]": []}
    while len(found) < count:
        for tree in list(found.values()):
            for branch in list(found.values())[:20]:
                found[f"{tree}+{branch}"] = [*tree, branch]
    different = {str(tree): tree for tree in found.values()}
    return list(different.values())[:count]


LINEAR: dict[str, list[Any]] = {
    "integers": list(range(8_000)),
    "fractions": [number + 0.5 for number in range(8_000)],
    "texts": [f"s{number}" for number in range(8_000)],
    "lists": [[number] for number in range(8_000)],
    "objects": [{"a": number} for number in range(8_000)],
    "objects that differ in the last of twenty members": [
        dict.fromkeys("abcdefghijklmnopqrs", 1) | {"t": number} for number in range(1_000)
    ],
}
QUADRATIC: dict[str, list[Any]] = {
    "integers that are one double": [10**30 + number for number in range(300)],
    "objects of such integers": [{"a": 10**30 + number} for number in range(300)],
    "integers of thousands of digits": [10**3_000 + number for number in range(30)],
    "integers beyond a double's precision": [2**62 + number for number in range(200)],
    "lists that differ in their nesting alone": _trees(1_000),
}
SCHEMA = {"uniqueItems": True}


def measured_ms(*lists: list[Any]) -> list[float]:
    """The processor time of a check of each list; the least of several in turn, because others may have the caches."""
    validator = jsonschema_rs.Draft202012Validator(SCHEMA)
    found: list[list[int]] = [[] for _ in lists]
    for _ in range(5):
        for items, times in zip(lists, found, strict=True):
            began = time.process_time_ns()
            validator.validate(items)
            times.append(time.process_time_ns() - began)
    return [min(times) / 1e6 for times in found]


@pytest.mark.parametrize("items", [*LINEAR.values(), *QUADRATIC.values()], ids=[*LINEAR, *QUADRATIC])
def test_the_estimate_follows_what_a_check_takes(items: list[Any]) -> None:
    """Beside that of integers in the same run, so that it says the same on any machine."""
    measured, of_integers = measured_ms(items, LINEAR["integers"])
    estimate = estimated_ms(SCHEMA, items) / estimated_ms(SCHEMA, LINEAR["integers"])
    assert 0.2 < estimate / (measured / of_integers) < 10


@pytest.mark.parametrize("items", QUADRATIC.values(), ids=list(QUADRATIC))
def test_items_of_equal_hashes_are_quadratic(items: list[Any]) -> None:
    assert unique_items_us(items) > 3 * unique_items_us(items[: len(items) // 2])


@pytest.mark.parametrize("items", LINEAR.values(), ids=list(LINEAR))
def test_other_items_are_linear(items: list[Any]) -> None:
    assert 1.9 < unique_items_us(items) / unique_items_us(items[: len(items) // 2]) < 2.1


def test_a_short_list_is_compared_pair_by_pair() -> None:
    assert unique_items_us(list(range(15))) > 2 * unique_items_us(list(range(16)))


def test_each_list_at_a_level_counts() -> None:
    one, many = (estimated_ms({"items": SCHEMA}, [list(range(500))] * count) for count in (1, 100))

    assert 80 < many / one < 101

"""What ``uniqueItems`` costs: a hash of each item, and a comparison of each pair whose hashes are equal.

jsonschema-rs hashes a number as a double and a list as its members one after the other, so that different items can
have equal hashes: integers beyond 2**53, and lists that differ in their nesting alone. A customer can write such items,
and then the check is quadratic.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

ALWAYS_COMPARED = 15
"""A list of at most so many items is not hashed: each pair is compared."""

# Microseconds.
HASHED_VALUE = 0.3
COMPARED_PAIR, COMPARED_VALUE = 0.1, 0.05
COMPARED_DIGIT = 0.3
"""Of an integer beyond 2**53: it is compared as text that is parsed again for each comparison."""

_EXACT = 2**53


def unique_items_us(items: list[Any]) -> float:
    """The microseconds that finding out takes whether the items are unique, for items that are."""
    keys = [_key(item) for item in items]
    costs = [_comparison(item) for item in items]
    groups: defaultdict[object, list[float]] = defaultdict(list)
    for key, cost in zip(keys, costs, strict=True):
        groups[None if len(items) <= ALWAYS_COMPARED else key].append(cost)
    compared = sum((len(group) - 1) / 2 * sum(group) for group in groups.values())
    return HASHED_VALUE * sum(map(_values, items)) + compared


def _key(value: object) -> object:
    """Equal for two values if their hashes are, whether or not they are equal themselves."""
    leaves: list[object] = []
    _add_leaves(value, leaves)
    return tuple(leaves)


def _add_leaves(value: object, leaves: list[object]) -> None:
    if isinstance(value, list):
        for member in value:
            _add_leaves(member, leaves)
    elif isinstance(value, dict):
        leaves.append(frozenset((name, _key(member)) for name, member in value.items()))
    elif isinstance(value, int):
        leaves.append(_double(value))
    else:
        leaves.append(value)


def _double(number: int) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf


def _comparison(value: object) -> float:
    """Comparing the value with another one of the same hash."""
    cost = COMPARED_PAIR
    waiting = [value]
    while waiting:
        found = waiting.pop()
        cost += COMPARED_VALUE
        if isinstance(found, list):
            waiting.extend(found)
        elif isinstance(found, dict):
            waiting.extend(found.values())
        elif isinstance(found, int) and abs(found) > _EXACT:
            cost += COMPARED_DIGIT * found.bit_length() * math.log10(2)
    return cost


def _values(value: object) -> int:
    total, waiting = 0, [value]
    while waiting:
        found = waiting.pop()
        total += 1
        if isinstance(found, list):
            waiting.extend(found)
        elif isinstance(found, dict):
            waiting.extend(found.values())
    return total

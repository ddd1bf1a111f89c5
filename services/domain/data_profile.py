"""How much JSON data there is at each level, which bounds how often a part of a schema can be applied to it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Level:
    """All values that are equally deep. ``characters`` are those of texts, ``key_characters`` those of the objects'
    keys; ``keys`` has how many objects have each key, ``lists`` are those of two items or more."""

    values: int = 0
    numbers: int = 0
    characters: int = 0
    key_characters: int = 0
    keys: Counter[str] = field(default_factory=Counter)
    lists: list[list[Any]] = field(default_factory=list)


NOTHING = Level()


def profile(data: object) -> list[Level]:
    """The levels of the data, the root first."""
    levels: list[Level] = []
    values: list[Any] = [data]
    while values:
        level = Level(values=len(values))
        levels.append(level)
        below: list[Any] = []
        for value in values:
            if isinstance(value, str):
                level.characters += len(value)
            elif isinstance(value, dict):
                level.keys.update(value.keys())
                level.key_characters += sum(map(len, value))
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
                if len(value) > 1:
                    level.lists.append(value)
            elif isinstance(value, (int, float)):
                level.numbers += 1
        values = below
    return levels

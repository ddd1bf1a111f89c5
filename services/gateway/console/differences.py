"""What a change changed, field by field, for a person to read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Difference(NamedTuple):
    """A field in words, and its values; None where it was not there."""

    words: str
    before: Any
    after: Any


def differences(before: Mapping[str, Any], after: Mapping[str, Any], resource: str) -> list[Difference]:
    """The fields of the resource that differ, from the values of the history, as resource/field.

    A section comes whole, and is taken apart: what stayed the same says nothing.
    """
    found = []
    for field in dict.fromkeys([*before, *after]):
        old, new = before.get(field), after.get(field)
        if field != resource:
            found.append(Difference(_words(field, resource), old, new))
        elif isinstance(old, Mapping) or isinstance(new, Mapping):
            parts = old or {}, new or {}
            names = dict.fromkeys([*parts[0], *parts[1]])
            found += [Difference(_words(name, ""), *(part.get(name) for part in parts)) for name in names]
    return [one for one in found if one.before != one.after]


def _words(field: str, resource: str) -> str:
    own = field.removeprefix(resource.removesuffix("/signature")).strip("/")
    return own.replace("_", " ").replace("/", " › ")

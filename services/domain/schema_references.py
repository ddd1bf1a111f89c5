"""The references and subschemas of a JSON Schema, and which references can be used."""

from __future__ import annotations

from typing import Any, TypeGuard
from urllib.parse import unquote

_WRONG_REFERENCE = "only references of the form #/$defs/name can be used"
_DYNAMIC = ("$dynamicRef", "$recursiveRef")


class SchemaUnusable(Exception):
    """The schema cannot be used; a clause says why."""


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def refuse_other_references(schema: dict[str, Any], root: dict[str, Any]) -> None:
    """Raises `SchemaUnusable`. A nested ``$id`` would change the base of the references below it."""
    if any(name in schema for name in _DYNAMIC) or ("$id" in schema and schema is not root):
        raise SchemaUnusable(_WRONG_REFERENCE)


def referenced(reference: str, root: dict[str, Any]) -> object:
    """The schema that a reference leads to. Raises `SchemaUnusable`."""
    pointer = unquote(reference.removeprefix("#"))
    if not reference.startswith("#") or (pointer and not pointer.startswith("/")):
        raise SchemaUnusable(_WRONG_REFERENCE)
    found: object = root
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if is_object(found):
            refuse_other_references(found, root)
        if is_object(found) and name in found:
            found = found[name]
        elif isinstance(found, list) and name.isascii() and name.isdigit() and int(name) < len(found):
            found = found[int(name)]
        else:
            raise SchemaUnusable("a reference leads to nothing")
    return found

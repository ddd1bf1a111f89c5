"""Schemas as generated clients want them: each named once under ``components``, and no titles that pydantic made up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_COMPONENTS = "#/components/schemas/"
_DEFINITIONS = "#/$defs/"


def share_schemas(document: dict[str, Any]) -> None:
    """Moves the schemas of request bodies, with their ``$defs``, under their titles to the components.

    A schema whose name another one has already is called its ``Input``: the answer with the same name differs.
    """
    components = document["components"]["schemas"]
    for operations in document["paths"].values():
        for operation in operations.values():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                content["schema"] = _shared(content["schema"], components)


def _shared(schema: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    definitions = schema.pop("$defs", {})
    names = {name: _free_name(one.get("title", name), one, components) for name, one in definitions.items()}
    for one in (schema, *definitions.values()):
        _rename(one, names)
    for name, one in definitions.items():
        components[names[name]] = one
    name = _free_name(schema["title"], schema, components)
    components[name] = schema
    return {"$ref": _COMPONENTS + name}


def _free_name(name: str, schema: dict[str, Any], components: dict[str, Any]) -> str:
    return name if components.get(name, schema) == schema else f"{name}Input"


def _rename(schema: Any, names: dict[str, str]) -> None:
    for one in _objects(schema):
        for key, reference in one.items():  # a `$ref`, or a value of a discriminator's `mapping`
            if isinstance(reference, str) and reference.startswith(_DEFINITIONS):
                one[key] = _COMPONENTS + names[reference.removeprefix(_DEFINITIONS)]


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _objects(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _objects(inner)


def without_titles(document: dict[str, Any]) -> None:
    """Removes titles, which code generators take for names, and which are not unique."""
    for one in _objects({"paths": document["paths"], "schemas": document["components"]["schemas"]}):
        if isinstance(one.get("title"), str):
            del one["title"]

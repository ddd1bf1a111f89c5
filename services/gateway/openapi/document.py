"""The OpenAPI document: what FastAPI knows of the routes, with access, problems, and descriptions from our tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts

from services.gateway.authentication.caller import SECURITY_SCHEME
from services.gateway.authentication.operations import OPERATIONS
from services.gateway.openapi.parameters import describe_parameter
from services.gateway.openapi.problem_responses import PROBLEM_SCHEMA, problem_examples, problem_responses
from services.gateway.openapi.schemas import share_schemas, without_titles
from services.gateway.problems import title

_READ_HEADERS = {
    "ETag": {
        "description": "The version in which this last changed, for If-Match and If-None-Match.",
        "schema": {"type": "string", "pattern": '^"[0-9]+"$'},
    },
    "Switchboard-Cursor": {
        "description": "The cursor from which changes continue; missing while the broker is away.",
        "schema": {"type": "string"},
    },
}
_NOT_MODIFIED = {
    "description": "What If-None-Match names is still the newest version.",
    "headers": {"ETag": _READ_HEADERS["ETag"]},
}

_NO_WORDS = "Successful Response"
"""FastAPI's."""


def operation_id(route: APIRoute) -> str:
    """``toggle_sms`` becomes ``toggleSms``. Generated clients name their functions after it."""
    first, *others = route.name.split("_")
    return first + "".join(word.capitalize() for word in others)


def describe(app: FastAPI) -> None:
    """Lets the application's OpenAPI document say all that this package knows of the routes under ``/v1``."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            _complete(plain(), {name: route for name, route in _routes(app) if name in OPERATIONS})
        document: dict[str, Any] = app.openapi_schema  # type: ignore[assignment]
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _routes(app: FastAPI) -> Iterator[tuple[str, APIRoute]]:
    for context in iter_route_contexts(app.routes):
        route = context.original_route
        if isinstance(route, APIRoute):
            for method in route.methods or ():
                yield f"{method} {context.path_format}", route


def _complete(document: dict[str, Any], routes: dict[str, APIRoute]) -> None:
    schemas = document["components"].setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Problem"] = PROBLEM_SCHEMA
    document["components"]["examples"] = problem_examples()
    for name, route in routes.items():
        method, path = name.split(" ")
        operation = document["paths"][path][method.lower()]
        operation["summary"] = title(route.name.title().replace("_", ""))
        _describe_access(operation, name)
        _describe_answers(operation, schemas)
        parameters = operation.get("parameters", [])
        for parameter in parameters:
            describe_parameter(parameter)
        operation["responses"].pop("422", None)  # FastAPI's own, which our handler replaces
        operation["responses"] |= problem_responses(method, operation, route)
        if any(one["name"] == "If-None-Match" for one in parameters):
            operation["responses"]["200"]["headers"] = _READ_HEADERS | operation["responses"]["200"].get("headers", {})
            operation["responses"]["304"] = _NOT_MODIFIED
        operation["responses"] = dict(sorted(operation["responses"].items()))
    share_schemas(document)
    without_titles(document)


def _describe_answers(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """An answer without words of its own is described by those of its schema."""
    for response in operation["responses"].values():
        if response["description"] == _NO_WORDS:
            reference = response["content"]["application/json"]["schema"].get("$ref", "")
            response["description"] = schemas.get(reference.rpartition("/")[2], {}).get("description", _NO_WORDS)


def _describe_access(operation: dict[str, Any], name: str) -> None:
    """The roles of which the caller needs one, and what the operation is about."""
    row = OPERATIONS[name]
    operation["security"] = [{SECURITY_SCHEME: [role]} for role in sorted(row.roles)]
    operation["x-switchboard-target"] = row.target.value

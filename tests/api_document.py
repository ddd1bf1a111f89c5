"""The OpenAPI document as a judge: whether it has the answer that a gateway gave."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, cast

import jsonschema_rs
from starlette.routing import compile_path

from services.gateway.application import application
from services.gateway.problem_types import MEDIA_TYPE, TYPE_PREFIX
from services.infrastructure.postgres import Pool

_OPEN = {"EventEnvelope"}
"""Schemas of what others may have written: readers ignore what they do not know."""


@cache
def document() -> dict[str, Any]:
    return application(cast("Pool", None)).openapi()


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(method, path, operation)."""
    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def require_described(method: str, path: str, status: int, headers: Mapping[str, str], body: Any) -> None:
    """Fails unless the document has the answer: status, media type, and its schema or the type of its problem.

    What no route answers is not in the document: unknown paths, and methods that a path does not have.
    """
    operation = _operation(method, path.partition("?")[0])
    if operation is None or status == 405:
        return
    response = operation["responses"].get(str(status))
    where = f"{method} {path} answered {status}"
    assert response is not None, f"{where}, which the OpenAPI document does not have: {body}"
    content = response.get("content", {})
    media_type = headers.get("Content-Type", "").partition(";")[0]
    if not content:
        assert not body, where
        return
    assert media_type in content, f"{where} with {media_type}, and the document has {', '.join(content)}."
    if media_type == MEDIA_TYPE:
        name = body["type"].removeprefix(TYPE_PREFIX)
        known = {one.rstrip("0123456789") for one in content[media_type]["examples"]}
        assert name in known, f"{where} {name}: declare it with @raises, or in openapi/rejections.py for a command."
    elif media_type == "application/json":
        errors = [
            f"{'/'.join(map(str, error.instance_path))}: {error.message}"
            for error in _validator(operation["operationId"], str(status)).iter_errors(body)
        ]
        assert errors == [], f"{where} with what its schema does not have: {errors[:3]}"


def _operation(method: str, path: str) -> dict[str, Any] | None:
    found = [operation for one, pattern, operation in _patterns() if one == method and pattern.match(path) is not None]
    return found[-1] if found else None


@cache
def _patterns() -> list[tuple[str, re.Pattern[str], dict[str, Any]]]:
    return [(method, compile_path(path)[0], operation) for method, path, operation in operations()]


@cache
def _validator(operation_id: str, status: str) -> jsonschema_rs.Validator:
    (operation,) = (one for _, _, one in operations() if one["operationId"] == operation_id)
    schema = operation["responses"][status]["content"]["application/json"]["schema"]
    return jsonschema_rs.validator_for({**schema, "components": _closed_components()})


@cache
def _closed_components() -> dict[str, Any]:
    """The schemas, but of objects with the members that they name alone: nothing undescribed is answered."""
    return {
        "schemas": {
            name: schema if name in _OPEN or "properties" not in schema else {"additionalProperties": False, **schema}
            for name, schema in document()["components"]["schemas"].items()
        }
    }

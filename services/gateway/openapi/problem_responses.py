"""The responses of an operation that are problems: one for each status, with an example of each problem."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from services.gateway.openapi.rejections import REJECTIONS
from services.gateway.problem_types import MEDIA_TYPE, PROBLEM_TYPES, TYPE_PREFIX
from services.gateway.problems import title

PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "An error (RFC 9457). Further members say what it is about. New types may come to be.",
    "properties": {
        "type": {
            "type": "string",
            "format": "uri",
            "description": f"Stable: `{TYPE_PREFIX}` and the problem's name. A response's examples have its types.",
        },
        "title": {"type": "string", "description": "The name in words."},
        "status": {"type": "integer", "description": "The HTTP status."},
        "detail": {"type": "string", "description": "A sentence that says what is wrong, and what would be right."},
        "command_id": {"type": "string", "description": "Where a command was rejected: its id."},
        "rejection": {"type": "string", "description": "Where a command was rejected: the rejection's name."},
        "version": {"type": "integer", "description": "The channel's version now, where the problem is about it."},
    },
    "required": ["type", "title", "status", "detail"],
    "additionalProperties": True,
}

_OF_ALL = (
    *("ParameterInvalid", "ParameterUnknown", "RequestAmbiguous", "RequestUnreadable", "RequestTimeout"),
    *("Unauthenticated", "Forbidden", "TooManyRequests", "TooManyConnections", "Fault"),
    *("Unavailable", "IssuerUnavailable"),
)
_OF_BODIES = ("BodyUnreadable", "InvalidCommand", "PathContradicted")
_OF_COMMANDS = (
    *("AccountMissing", "InvalidCommand", "CommandIdReused", "TooManyCommands", "ChannelIsRetired"),
    *("VersionConflict", "VersionYetToCome", "DecisionFailed", "OutcomeTimeout"),
)
_RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 0}}}
_HEADERS: dict[int, dict[str, Any]] = {
    401: {"WWW-Authenticate": {"description": "Bearer", "schema": {"type": "string"}}},
    429: _RETRY_AFTER,
    503: _RETRY_AFTER,
}


def problem_responses(method: str, operation: dict[str, Any], route: APIRoute) -> dict[str, dict[str, Any]]:
    """Status -> response."""
    by_status: dict[int, list[str]] = defaultdict(list)
    for name in sorted({*_named(method, operation), *_declared(route.dependant)}):
        for status in PROBLEM_TYPES[name].statuses:
            by_status[status].append(name)
    return {str(status): _response(status, names) for status, names in by_status.items()}


def _named(method: str, operation: dict[str, Any]) -> Iterator[str]:
    """The problems that follow from what an operation has."""
    yield from _OF_ALL
    parameters = {one["name"] for one in operation.get("parameters", ())}
    if "channel" in parameters:
        yield "ChannelUnknown"
    if method not in ("GET", "HEAD"):
        yield "BodyTooLarge"
    if method in ("POST", "PUT", "PATCH"):
        yield "MediaTypeUnsupported"
    if "requestBody" in operation:
        yield from _OF_BODIES
    if (command := operation.get("x-switchboard-command")) is not None:
        yield from (*_OF_COMMANDS, *REJECTIONS[command])


def _declared(dependant: Dependant) -> Iterator[str]:
    """What the route and the functions that it depends on declare with `raises`."""
    yield from getattr(dependant.call, "problems", ())
    for dependency in dependant.dependencies:
        yield from _declared(dependency)


def _response(status: int, names: list[str]) -> dict[str, Any]:
    return {
        "description": f"{HTTPStatus(status).phrase}: {', '.join(names)}.",
        "headers": _HEADERS.get(status, {}),
        "content": {
            MEDIA_TYPE: {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "examples": {name: {"$ref": f"#/components/examples/{_example_name(name, status)}"} for name in names},
            }
        },
    }


def problem_examples() -> dict[str, dict[str, Any]]:
    """Name -> example: of each problem in each of its statuses."""
    return {
        _example_name(name, status): {"value": _example(name, status)}
        for name, known in PROBLEM_TYPES.items()
        for status in known.statuses
    }


def _example_name(name: str, status: int) -> str:
    return name if status == PROBLEM_TYPES[name].statuses[0] else f"{name}{status}"


def _example(name: str, status: int) -> dict[str, Any]:
    known = PROBLEM_TYPES[name]
    return {
        "type": f"{TYPE_PREFIX}{name}",
        "title": title(name),
        "status": status,
        "detail": known.detail,
        **known.members,
    }

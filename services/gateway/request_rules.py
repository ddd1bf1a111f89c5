"""Rules for every request of the API: no parameter is ignored, none is ambiguous, and a body is plain JSON."""

from __future__ import annotations

from urllib.parse import parse_qsl

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from contracts.media_type import is_json_media_type
from services.gateway.problems import Problem

_ONCE = ("Idempotency-Key", "If-Match", "Switchboard-Account", "Content-Type", "Last-Event-ID")
_BODIES = ("POST", "PUT", "PATCH")


def check_rules(request: Request) -> None:
    """Raises `Problem`."""
    require_no_nul(request)
    _check_query(request, [name for name, _ in _given(request)])
    for name in _ONCE:
        if len(request.headers.getlist(name)) > 1:
            raise Problem(400, "ParameterInvalid", f"The header {name} was sent twice; send it once.")
    if request.method in _BODIES:
        _check_body_headers(request)


def require_no_nul(request: Request) -> None:
    """Raises `Problem` where a parameter holds a NUL, which no text in the database does."""
    for name, value in (*request.path_params.items(), *_given(request)):
        if "\0" in value:
            raise Problem(400, "ParameterInvalid", f"The parameter {name[:128]!r} may not hold a NUL.")


def _given(request: Request) -> list[tuple[str, str]]:
    return parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)


def _check_query(request: Request, given: list[str]) -> None:
    if not given:
        return
    known = _query_parameters(request.scope["route"])
    for name in given:
        if name not in known:
            takes = f"this route takes {', '.join(sorted(known))}" if known else "this route takes none"
            raise Problem(400, "ParameterUnknown", f"There is no parameter {name[:128]!r}; {takes}.")
        if not known[name] and given.count(name) > 1:
            raise Problem(400, "ParameterInvalid", f"The parameter {name!r} was sent twice; send it once.")


def _query_parameters(route: APIRoute) -> dict[str, bool]:
    """Name of a query parameter of the route -> whether it may be sent more than once."""
    found: dict[str, bool] = {}
    left: list[Dependant] = [route.dependant]
    while left:
        dependant = left.pop()
        found |= {field.alias: "list" in str(field.field_info.annotation) for field in dependant.query_params}
        left += dependant.dependencies
    return found


def _check_body_headers(request: Request) -> None:
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding != "identity":
        detail = "Send the body as it is: no Content-Encoding is taken."
        raise Problem(415, "MediaTypeUnsupported", detail).with_headers({"Accept-Encoding": "identity"})
    media_type = request.headers.get("Content-Type")
    has_body = request.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in request.headers
    if has_body and media_type is not None and not is_json_media_type(media_type):
        detail = f"Send the body as application/json in UTF-8, not {media_type[:128]}."
        headers = {"Accept-Patch" if request.method == "PATCH" else "Accept": "application/json"}
        raise Problem(415, "MediaTypeUnsupported", detail).with_headers(headers)

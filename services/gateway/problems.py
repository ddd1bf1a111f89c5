"""Errors over HTTP: RFC 9457 problem details. `problem_types` has all that there are."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from contracts.kafka.publisher import OutcomeTimeout, PublisherError
from contracts.message_routing import RoutingRefused
from contracts.outcome import CommandRejected
from services.gateway.problem_types import MEDIA_TYPE, PROBLEM_TYPES, TYPE_PREFIX, rejection_status
from services.infrastructure.fair_queue import QueueFull
from services.infrastructure.postgres import OUTAGES

log = structlog.stdlib.get_logger(__name__)


class Problem(Exception):
    """An error response. ``name`` becomes the stable ``type``; ``detail`` is a sentence."""

    def __init__(
        self, status: int, name: str, detail: str, /, *, retry_after_s: int | None = None, **members: Any
    ) -> None:
        super().__init__(detail)
        self.status, self.name, self.detail, self.members = status, name, detail, members
        self.headers: dict[str, str] = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}

    def with_headers(self, headers: dict[str, str]) -> Problem:
        self.headers |= headers
        return self

    def as_json(self) -> dict[str, Any]:
        return {
            **self.members,
            "type": f"{TYPE_PREFIX}{self.name}",
            "title": title(self.name),
            "status": self.status,
            "detail": self.detail,
        }

    def response(self, headers: Mapping[str, str] | None = None) -> JSONResponse:
        headers = {"WWW-Authenticate": "Bearer"} if self.status == 401 else {**self.headers, **(headers or {})}
        return JSONResponse(self.as_json(), self.status, headers, MEDIA_TYPE)


_SPELLINGS = {"Otp": "OTP", "Sms": "SMS", "Api": "API", "Url": "URL", "Http": "HTTP", "WhatsApp": "WhatsApp"}


def title(name: str) -> str:
    """The name of a problem in words: ``SmsNotActivated`` becomes ``SMS not activated``."""
    words = [_SPELLINGS.get(word, word.lower()) for word in re.findall("WhatsApp|[A-Z][a-z]*", name)]
    return " ".join([words[0] if words[0] in _SPELLINGS.values() else words[0].capitalize(), *words[1:]])


def _inside(sentence: str) -> str:
    """A sentence within another one; what it quotes keeps its capitals."""
    return sentence[:1].lower() + sentence[1:]


def problem_of_rejection(rejected: CommandRejected, command_id: str) -> Problem:
    members = dict(rejected.model_extra or {}) | {"command_id": command_id, "rejection": rejected.rejection}
    if rejected.version is not None:
        members["version"] = rejected.version
    return Problem(rejection_status(rejected.rejection), rejected.rejection, rejected.message, **members)


def problem_of_refusal(refused: RoutingRefused) -> Problem:
    status = PROBLEM_TYPES[refused.reason].statuses[0]
    return Problem(status, refused.reason, refused.sentence, message=refused.message, reason=refused.reason)


def channel_unknown(channel: str) -> Problem:
    return Problem(404, "ChannelUnknown", f"The account has no channel {channel!r}.", channel=channel)


def unauthenticated() -> Problem:
    """The one answer to every credential that is not valid, whatever is wrong with it."""
    detail = "Send a credential that is valid now and from here, such as an API key, as Authorization: Bearer sb_…."
    return Problem(401, "Unauthenticated", detail)


def issuer_unavailable() -> Problem:
    detail = "Whether the token is valid cannot be told: its issuer does not answer at the moment; try again shortly."
    return Problem(503, "IssuerUnavailable", detail, retry_after_s=5)


def unavailable(part: Literal["broker", "database", "broker or the database", "log"]) -> Problem:
    return Problem(503, "Unavailable", f"The {part} is unavailable at the moment; try again shortly.", retry_after_s=1)


def too_many_waiting() -> Problem:
    detail = "The account, or address, has too many requests waiting for their turn already; send it again later."
    return Problem(429, "TooManyRequests", detail, retry_after_s=1)


def overloaded() -> Problem:
    detail = "This gateway has no memory left for the request at the moment; try again shortly."
    return Problem(503, "Unavailable", detail, retry_after_s=5)


def outcome_timeout(error: OutcomeTimeout, idempotency_key: str) -> Problem:
    """``idempotency_key`` is that with which the request can be repeated."""
    detail = (
        f"The command was published, but its outcome did not arrive in time. Repeat the request with "
        f"Idempotency-Key: {idempotency_key} to learn the outcome; nothing happens twice."
    )
    return Problem(504, "OutcomeTimeout", detail, command_id=error.command_id)


def install(app: FastAPI, allowed_methods: Callable[[str], str]) -> None:
    """Turns every error of the application into a problem response, and logs those that are our side's fault.

    ``allowed_methods`` returns the header Allow of a path, which also answers OPTIONS.
    """

    @app.exception_handler(Problem)
    async def _problem(request: Request, error: Problem) -> JSONResponse:
        return _failure(request, error) if error.status >= 500 else error.response()

    @app.exception_handler(RequestValidationError)
    async def _parameters(_: Request, error: RequestValidationError) -> JSONResponse:
        parts = [f"{'.'.join(map(str, one['loc'][1:]))!r} is wrong: {_inside(one['msg'])}" for one in error.errors()]
        return Problem(400, "ParameterInvalid", "; ".join(parts) + ".").response()

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        path = request.url.path
        if error.status_code == 404:
            return Problem(404, "RouteUnknown", f"There is no route {path}; /docs lists them all.").response()
        if error.status_code == 405:
            allow = {"Allow": allowed_methods(path)}
            if request.method == "OPTIONS":
                return Response(status_code=204, headers=allow)
            detail = f"{path} does not allow {request.method}, only {allow['Allow']}."
            return Problem(405, "MethodNotAllowed", detail).response(allow)
        return Problem(error.status_code, "HttpError", str(error.detail)).response()

    @app.exception_handler(OutcomeTimeout)
    async def _timeout(request: Request, error: OutcomeTimeout) -> JSONResponse:
        return _failure(request, outcome_timeout(error, error.command_id))

    @app.exception_handler(QueueFull)
    async def _queue_full(_: Request, __: QueueFull) -> JSONResponse:
        return too_many_waiting().response()

    async def _unavailable(request: Request, error: Exception) -> JSONResponse:
        return _failure(request, unavailable("broker or the database"), cause=type(error).__name__)

    for outage in (PublisherError, *OUTAGES):
        app.add_exception_handler(outage, _unavailable)

    @app.exception_handler(Exception)
    async def _fault(request: Request, error: Exception) -> JSONResponse:
        # The server logs the traceback: the error is raised again after this response.
        problem = Problem(500, "Fault", "An internal error occurred; the log has the details.")
        return _failure(request, problem, cause=type(error).__name__)


def _failure(request: Request, problem: Problem, **context: Any) -> JSONResponse:
    """Logs a request that failed on our side, and returns the response. The query is not logged."""
    if "command_id" in problem.members:
        context["command_id"] = problem.members["command_id"]
    log.warning(
        "request failed",
        method=request.method,
        path=request.url.path,
        status=problem.status,
        problem=problem.name,
        detail=problem.detail,
        **context,
    )
    return problem.response()

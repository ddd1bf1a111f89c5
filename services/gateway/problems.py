"""Errors over HTTP: RFC 9457 problem details. Only here is a rejection an HTTP status."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from contracts.outcome import CommandRejected
from contracts.publisher import OutcomeTimeout, PublisherBroken
from services.infrastructure.postgres import OUTAGES

MEDIA_TYPE = "application/problem+json"
_DEFAULT_STATUS = 409
_STATUS = {
    "InvalidCommand": 422,
    "EnterpriseAuthenticationMissing": 422,
    "ApiRequestUrlRefused": 422,
    "SealKeyRefused": 422,
    "IntentSchemaInvalid": 422,
    "DefaultDataBreaksSchema": 422,
    "OtpSchedulingNeedsCountries": 422,
    "SignatureNeedsApiRequestUrl": 422,
    "ChannelUnknown": 404,
    "BusinessSystemUnknown": 404,
    "IntentUnknown": 404,
    "SignatureUnknown": 404,
    "ChannelIsRetired": 410,
    "VersionConflict": 412,
    "VersionYetToCome": 412,
    "DecisionFailed": 500,
}


class Problem(Exception):
    """An answer that is no success. ``name`` makes the stable ``type``, ``detail`` is a sentence."""

    def __init__(self, status: int, name: str, detail: str, **facts: Any) -> None:
        super().__init__(detail)
        self.status, self.name, self.detail, self.facts = status, name, detail, facts

    def response(self, headers: Mapping[str, str] | None = None) -> JSONResponse:
        body = {
            **self.facts,
            "type": f"urn:switchboard:problem:{self.name}",
            "title": _words(self.name),
            "status": self.status,
            "detail": self.detail,
        }
        headers = {"WWW-Authenticate": "Bearer"} if self.status == 401 else headers
        return JSONResponse(body, self.status, headers, MEDIA_TYPE)


_AS_WRITTEN = {"Otp": "OTP", "Sms": "SMS", "Api": "API", "Url": "URL", "Http": "HTTP", "WhatsApp": "WhatsApp"}


def _words(name: str) -> str:
    words = [_AS_WRITTEN.get(word, word.lower()) for word in re.findall("WhatsApp|[A-Z][a-z]*", name)]
    return " ".join([words[0] if words[0] in _AS_WRITTEN.values() else words[0].capitalize(), *words[1:]])


def problem_of_rejection(rejected: CommandRejected, command_id: str) -> Problem:
    facts = dict(rejected.model_extra or {}) | {"command_id": command_id, "rejection": rejected.rejection}
    if rejected.version is not None:
        facts["version"] = rejected.version
    status = _STATUS.get(rejected.rejection, _DEFAULT_STATUS)
    return Problem(status, rejected.rejection, rejected.message, **facts)


def channel_unknown(channel: str) -> Problem:
    return Problem(404, "ChannelUnknown", f"The account has no channel {channel!r}.", channel=channel)


def install(app: FastAPI) -> None:
    """Every error of the app becomes a problem."""

    @app.exception_handler(Problem)
    async def _problem(_: Request, error: Problem) -> JSONResponse:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def _parameters(_: Request, error: RequestValidationError) -> JSONResponse:
        parts = [f"{'.'.join(map(str, one['loc'][1:]))!r} is wrong: {one['msg'].lower()}" for one in error.errors()]
        return Problem(400, "ParameterInvalid", "; ".join(parts) + ".").response()

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        path = request.url.path
        if error.status_code == 404:
            return Problem(404, "RouteUnknown", f"There is nothing at {path}; /docs lists what is.").response()
        if error.status_code == 405:
            detail = f"{path} does not take {request.method}; /docs lists what it takes."
            return Problem(405, "MethodNotAllowed", detail).response(error.headers)  # they say what it takes
        return Problem(error.status_code, "HttpError", str(error.detail)).response()

    @app.exception_handler(OutcomeTimeout)
    async def _timeout(_: Request, error: OutcomeTimeout) -> JSONResponse:
        detail = (
            f"The command was published but not answered in time. Repeat the request with Idempotency-Key: "
            f"{error.command_id} to learn its outcome; nothing happens twice."
        )
        return Problem(504, "OutcomeTimeout", detail, command_id=error.command_id).response()

    async def _unavailable(_: Request, __: Exception) -> JSONResponse:
        detail = "The broker or the database is not there at the moment; try again shortly."
        return Problem(503, "Unavailable", detail).response()

    for outage in (PublisherBroken, *OUTAGES):
        app.add_exception_handler(outage, _unavailable)

    @app.exception_handler(Exception)
    async def _fault(_: Request, __: Exception) -> JSONResponse:
        return Problem(500, "Fault", "A fault on our side; it is in the log.").response()

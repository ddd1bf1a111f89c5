"""Every request passes here before its route: form, credential, rate, body, turn; and every response, for headers.

The order is that of cost. Nothing of a body is read before the caller is known, and no more of it than a route may get.
A credential is checked in turns too (`admission`).
Then the request waits for its account's turn, which it holds until its response begins, or it waits for something else.
"""

from __future__ import annotations

import asyncio
import math

import structlog
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contracts.ids import is_id, new_id
from services.gateway.admission import Admission
from services.gateway.authentication.access_log import Concerned
from services.gateway.authentication.api_keys import key_id_of
from services.gateway.authentication.authenticator import Authenticator
from services.gateway.authentication.oidc.tokens import IssuerUnavailable, TrustedIssuers, looks_signed
from services.gateway.authentication.origin import actor_of, origin_of
from services.gateway.authentication.principal import Principal
from services.gateway.authentication.refusals import Refusals
from services.gateway.limits import BODY_TIMEOUT_S, MAX_BODY_BYTES, RateLimits
from services.gateway.problems import Problem, issuer_unavailable, too_many_waiting, unauthenticated, unavailable
from services.infrastructure.fair_queue import FairQueue, QueueFull, Turn
from services.infrastructure.postgres import OUTAGES, Pool

log = structlog.stdlib.get_logger(__name__)

Headers = list[tuple[bytes, bytes]]

REFUSAL_DELAY_S = 1.0
"""A 429 is answered after it, so that a client that repeats at once is no more work than one that waits."""

_ALWAYS: Headers = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")]
_NO_CONTENT = b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_CLOSE = {"Connection": "close"}


class RequestGuard:
    """ASGI middleware. Leaves a request's ``turn`` in its state, and under ``/v1`` whom it is from, as ``principal``.

    Counts for the access log what is refused: credentials, and with 403 what the state's ``asked`` has, if anything:
    the caller and the operation.

    The turn has begun under ``/v1``; elsewhere whoever learns the account begins it.
    """

    def __init__(
        self,
        app: ASGIApp,
        pool: Pool,
        rates: RateLimits,
        work: FairQueue,
        refusals: Refusals,
        issuers: TrustedIssuers,
    ) -> None:
        self._app, self._rates, self._work, self._refusals = app, rates, work, refusals
        self._authenticator, self._issuers, self._admission = Authenticator(pool), issuers, Admission()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = _response_headers(scope["path"])
        turn = scope.setdefault("state", {})["turn"] = Turn(self._work)
        request_id = scope["state"]["request_id"] = _request_id(scope)
        headers.append((b"x-request-id", request_id.encode()))

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                turn.end()
                if message["status"] == 403 and "asked" in scope["state"]:
                    self._count_denied(Request(scope))
                given: Headers = list(message.get("headers", ()))
                names = {name.lower() for name, _ in given}
                message["headers"] = given + [header for header in headers if header[0] not in names]
            await send(message)

        try:
            _require_clear(scope)
            if _is_api(scope["path"]):
                receive = await self._admit(scope, receive, headers)
                await _begin(turn, scope)
        except _Refused as refused:
            if refused.problem.status == 429:
                await asyncio.sleep(REFUSAL_DELAY_S)
            response = refused.problem.response(refused.headers)
            await response(scope, receive, send_with_headers)
            return
        try:
            await self._app(scope, receive, send_with_headers)
        finally:
            turn.end()

    async def _admit(self, scope: Scope, receive: Receive, headers: Headers) -> Receive:
        """Checks the credential and the rate, and reads the body. Returns what gives the route its body."""
        token, address = _token(scope), _client_address(scope)
        try:
            async with self._admission.turn(token, address):
                principal = await self._authenticate(token, address)
        except QueueFull:
            raise _Refused(too_many_waiting()) from None
        except OUTAGES as error:
            log.warning("request failed", path=scope["path"], status=503, cause=type(error).__name__)
            raise _Refused(unavailable("database")) from None
        except IssuerUnavailable:
            raise _Refused(issuer_unavailable()) from None
        if principal is None:
            self._refusals.log_on_failed("api", key_id_of(token), origin_of(Request(scope)))
            raise _Refused(unauthenticated())
        self._admission.admitted(token, principal.payer)
        scope["state"]["principal"] = principal
        self._count(principal, headers)
        return receive if scope["method"] in ("GET", "HEAD") else await _read_body(scope, receive)

    async def _authenticate(self, token: str, address: str | None) -> Principal | None:
        if looks_signed(token):
            return await self._issuers.authenticate(token)
        api_key = await self._authenticator.authenticate(token, address)
        return None if api_key is None else api_key.principal

    def _count(self, principal: Principal, headers: Headers) -> None:
        payer = principal.payer
        if payer is None:
            return
        wait_s = self._rates.take(principal.subject, payer)
        headers += self._rates.headers(principal.subject, payer)
        if wait_s:
            detail = "The credential or its account has made too many requests; wait for the seconds of Retry-After."
            raise _Refused(Problem(429, "TooManyRequests", detail, retry_after_s=math.ceil(wait_s)))

    def _count_denied(self, request: Request) -> None:
        caller, operation = request.state.asked
        channel = request.path_params.get("channel", "")
        concerned = Concerned(caller.account, channel if is_id(channel) else None)
        self._refusals.denied(operation, concerned, actor_of(request, caller.principal))


class _Refused(Exception):
    def __init__(self, problem: Problem, headers: dict[str, str] | None = None) -> None:
        super().__init__(problem.detail)
        self.problem, self.headers = problem, headers


async def _begin(turn: Turn, scope: Scope) -> None:
    principal: Principal = scope["state"]["principal"]
    try:
        await turn.begin(principal.payer)
    except QueueFull:
        raise _Refused(too_many_waiting()) from None


def _is_api(path: str) -> bool:
    return path == "/v1" or path.startswith("/v1/")


def _response_headers(path: str) -> Headers:
    """Headers that a response has unless its route set them itself."""
    if _is_api(path):
        return [*_ALWAYS, (b"content-security-policy", _NO_CONTENT), (b"cache-control", b"no-store")]
    return [*_ALWAYS, (b"content-security-policy", _NO_CONTENT)]


def _require_clear(scope: Scope) -> None:
    """Refuses what two readers of the request could read differently, such as a proxy and this gateway."""
    names = [name for name, _ in scope["headers"]]
    if b"transfer-encoding" in names and b"content-length" in names:
        detail = "A request has either Content-Length or Transfer-Encoding, not both."
        raise _Refused(Problem(400, "RequestAmbiguous", detail), _CLOSE)
    if names.count(b"authorization") > 1:
        raise _Refused(Problem(400, "RequestAmbiguous", "The header Authorization was sent twice; send it once."))
    raw_path: bytes = scope.get("raw_path") or b""
    if b"%2f" in raw_path.lower():
        raise _Refused(Problem(400, "ParameterInvalid", "No part of a path may hold a slash, encoded as %2F."))


def _client_address(scope: Scope) -> str | None:
    """The client's address; behind a trusted proxy, the one that the proxy states."""
    client = scope.get("client")
    return None if client is None else str(client[0])


def _request_id(scope: Scope) -> str:
    """The id of X-Request-Id, such as a proxy sets; a new one if there is none that can be one."""
    given = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"x-request-id"), "")
    return given if is_id(given) else new_id()


def _token(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.decode("latin-1").partition(" ")
            return token.strip() if scheme.lower() == "bearer" else ""
    return ""


async def _read_body(scope: Scope, receive: Receive) -> Receive:
    """Reads the body, at most `MAX_BODY_BYTES`, within `BODY_TIMEOUT_S`."""
    too_large = Problem(413, "BodyTooLarge", f"A body may have at most {MAX_BODY_BYTES:,} bytes.")
    for name, value in scope["headers"]:
        if name == b"content-length" and int(value) > MAX_BODY_BYTES:
            raise _Refused(too_large)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    break
                body += message.get("body", b"")
                if len(body) > MAX_BODY_BYTES:
                    raise _Refused(too_large)
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        detail = f"The body did not arrive within {BODY_TIMEOUT_S:g} s."
        raise _Refused(Problem(408, "RequestTimeout", detail), _CLOSE) from None
    given = iter([{"type": "http.request", "body": bytes(body), "more_body": False}])

    async def receive_read() -> Message:
        return next(given, None) or await receive()

    return receive_read

"""Every request passes here before its route: form, credential, rate, body, turn; and every response, for headers.

The order is that of cost. Nothing of a body is read before the caller is known, and no more of it than a route may get.
A credential is checked in turns too (`admission`).
Then the request waits for its account's turn, which it holds until its response begins, or it waits for something else.
One without a checked credential is counted to its address, and waits for a turn of that (`strangers`).
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
from services.gateway.limits import MAX_BODY_BYTES, MAX_RATE_BOOK_BYTES, RateLimits
from services.gateway.problems import Problem, issuer_unavailable, too_many_waiting, unauthenticated, unavailable
from services.gateway.request_memory import RequestBodies, begin_turn, memory_of
from services.gateway.strangers import Strangers
from services.gateway.unread_answers import send_until_taken
from services.infrastructure.fair_queue import FairQueue, QueueFull, Turn
from services.infrastructure.postgres import OUTAGES, Pool

log = structlog.stdlib.get_logger(__name__)

Headers = list[tuple[bytes, bytes]]

REFUSAL_DELAY_S = 1.0
"""A 429 is answered after it, so that a client that repeats at once is no more work than one that waits."""

_LIVENESS = "/healthz"
"""Takes no turn: it needs nothing, and answers while those who have the turns wait for a database that hangs."""

_ALWAYS: Headers = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")]
_NO_CONTENT = b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"


class RequestGuard:
    """ASGI middleware. Leaves a request's ``turn`` in its state, and under ``/v1`` whom it is from, as ``principal``.

    Counts for the access log what is refused: credentials, and with 403 what the state's ``asked`` has, if anything:
    the caller and the operation.

    The turn has begun: under ``/v1`` the account's, elsewhere the address's, until somebody learns the account.
    """

    def __init__(
        self,
        app: ASGIApp,
        pool: Pool,
        rates: RateLimits,
        work: FairQueue,
        bodies: RequestBodies,
        refusals: Refusals,
        issuers: TrustedIssuers,
        strangers: Strangers,
    ) -> None:
        self._app, self._rates, self._work, self._refusals = app, rates, work, refusals
        self._bodies, self._strangers = bodies, strangers
        self._authenticator, self._issuers, self._admission = Authenticator(pool), issuers, Admission()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = _response_headers(scope["path"])
        turn = scope.setdefault("state", {})["turn"] = Turn(self._work)
        request_id = scope["state"]["request_id"] = _request_id(scope)
        headers.append((b"x-request-id", request_id.encode()))

        counted = _Sending(send, turn)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                if message["status"] == 403 and "asked" in scope["state"]:
                    self._count_denied(Request(scope))
                given: Headers = list(message.get("headers", ()))
                names = {name.lower() for name, _ in given}
                message["headers"] = given + [header for header in headers if header[0] not in names]
            await counted(message)

        try:
            try:
                receive = await self._enter(turn, scope, receive, headers)
            except Problem as problem:
                if problem.status == 429:
                    await asyncio.sleep(REFUSAL_DELAY_S)
                await problem.response()(scope, receive, send_with_headers)
            else:
                await self._app(scope, receive, send_with_headers)
        finally:
            turn.end()
            turn.give_back()

    async def _enter(self, turn: Turn, scope: Scope, receive: Receive, headers: Headers) -> Receive:
        """Begins the turn. Returns what gives the route its body. Raises `Problem`."""
        address = _client_address(scope)
        try:
            _require_clear(scope)
            if _is_api(scope["path"]):
                return await self._begin(turn, scope, receive, await self._admit(scope, headers))
        except Problem:
            if "principal" not in scope["state"]:
                self._strangers.count(address)
            raise
        self._strangers.count(address)
        if scope["path"] != _LIVENESS:
            await self._strangers.begin(turn, address)
        return receive

    async def _admit(self, scope: Scope, headers: Headers) -> Principal:
        """Checks the credential and the rate. Raises `Problem`."""
        token, address = _token(scope), _client_address(scope)
        try:
            async with self._admission.turn(token, address):
                principal = await self._authenticate(token, address)
        except QueueFull:
            raise too_many_waiting() from None
        except OUTAGES as error:
            log.warning("request failed", path=scope["path"], status=503, cause=type(error).__name__)
            raise unavailable("database") from None
        except IssuerUnavailable:
            raise issuer_unavailable() from None
        if principal is None:
            self._refusals.log_on_failed("api", key_id_of(token), origin_of(Request(scope)))
            raise unauthenticated()
        self._admission.admitted(token, principal.payer)
        scope["state"]["principal"] = principal
        self._count(principal, headers)
        return principal

    async def _begin(self, turn: Turn, scope: Scope, receive: Receive, principal: Principal) -> Receive:
        """Reads the body, and begins the turn. Returns what gives the route its body. Raises `Problem`."""
        if scope["method"] in ("GET", "HEAD"):
            await begin_turn(turn, principal.payer)
            return receive
        limit = _body_limit(scope, principal)
        async with self._bodies.read(scope["headers"], receive, principal.payer, limit) as body:
            await begin_turn(turn, principal.payer, memory_of(body))
        return _given(body, receive)

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
            raise Problem(429, "TooManyRequests", detail, retry_after_s=math.ceil(wait_s))

    def _count_denied(self, request: Request) -> None:
        caller, operation = request.state.asked
        channel = request.path_params.get("channel", "")
        concerned = Concerned(caller.account, channel if is_id(channel) else None)
        self._refusals.denied(operation, concerned, actor_of(request, caller.principal))


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
        raise Problem(400, "RequestAmbiguous", detail).with_headers({"Connection": "close"})
    if names.count(b"authorization") > 1:
        raise Problem(400, "RequestAmbiguous", "The header Authorization was sent twice; send it once.")
    raw_path: bytes = scope.get("raw_path") or b""
    if b"%2f" in raw_path.lower():
        raise Problem(400, "ParameterInvalid", "No part of a path may hold a slash, encoded as %2F.")


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


def _body_limit(scope: Scope, principal: Principal) -> int:
    is_rate_book = (scope["method"], scope["path"]) == ("PUT", "/v1/rates") and principal.payer is None
    return MAX_RATE_BOOK_BYTES if is_rate_book else MAX_BODY_BYTES


def _given(body: bytes, receive: Receive) -> Receive:
    """Gives the body that was read, once, and then what else comes."""
    given: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_read() -> Message:
        return given.pop() if given else await receive()

    return receive_read


def _content_length(message: Message) -> int | None:
    """What a response declares; None for a stream."""
    lengths = (int(value) for name, value in message.get("headers", ()) if name.lower() == b"content-length")
    return next(lengths, None)


def _is_of_events(message: Message) -> bool:
    return any(
        name.lower() == b"content-type" and b"event-stream" in value for name, value in message.get("headers", ())
    )


class _Sending:
    """Counts a response to its request's bytes until the client has taken it, one of unknown length piece by piece. A
    stream of events counts what it sends itself."""

    def __init__(self, send: Send, turn: Turn) -> None:
        self._send, self._turn = send, turn
        self._is_counted = self._comes_in_pieces = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            length = _content_length(message)
            self._comes_in_pieces = length is None
            self._is_counted = length is not None or not _is_of_events(message)
            if length is None:
                self._turn.give_back()
            else:
                self._turn.take(length)
            self._turn.end()
        if not self._is_counted:
            await self._send(message)
        elif self._comes_in_pieces:
            await self._send_piece(message)
        else:
            await send_until_taken(self._send, message)

    async def _send_piece(self, message: Message) -> None:
        size = len(message.get("body", b""))
        self._turn.take(size)
        try:
            await send_until_taken(self._send, message)
        finally:
            self._turn.give_back(size)

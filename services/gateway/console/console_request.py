"""A request of somebody who is logged on to the console: the session, the form, and the ways to answer."""

from __future__ import annotations

import gzip
import hmac
import json
import math
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs

from fastapi import Depends, Request
from starlette.responses import RedirectResponse, Response

from contracts.ids import is_id, new_id
from services.gateway.authentication import sessions
from services.gateway.authentication.caller import Caller, admitted, require_allowed
from services.gateway.authentication.console_operations import CONSOLE_OPERATIONS
from services.gateway.authentication.oidc.tokens import TrustedIssuers
from services.gateway.authentication.operations import OPERATIONS
from services.gateway.authentication.principal import Principal
from services.gateway.authentication.sessions import Session
from services.gateway.client_network import network_of
from services.gateway.commands import ChannelCommand, CommandOptions
from services.gateway.console import rendering
from services.gateway.limits import MAX_BODY_BYTES, MAX_LOG_ON_BYTES, RateLimits
from services.gateway.problems import Problem
from services.gateway.request_memory import RequestBodies, begin_turn, memory_of
from services.gateway.requests import pool_of, turn_of
from services.gateway.strangers import client_address, strangers_of

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
COOKIE = "switchboard-session"
_MAX_FIELDS = 2_000
_COMPRESS_ABOVE = 1_000


class NotLoggedOn(Exception):
    """The request has no session, or one that has ended."""


class ConsoleRequest:
    """``form`` has the fields of a POST; it is empty otherwise."""

    def __init__(self, request: Request, session: Session, form: dict[str, list[str]], caller: Caller) -> None:
        self.request, self.session, self.form, self.caller = request, session, form, caller

    def text(self, field: str, default: str = "") -> str:
        return self.form.get(field, [default])[-1].replace("\r\n", "\n")

    def has(self, field: str) -> bool:
        return field in self.form

    def command(
        self, channel: str, *, expected_version: int | None = None, dry_run: bool = False, command_id: str | None = None
    ) -> ChannelCommand:
        """Returns what sends a command to the channel, with the `options`."""
        options = self.options(expected_version=expected_version, dry_run=dry_run, command_id=command_id)
        return ChannelCommand(self.request, self.caller, channel, options)

    def options(
        self, *, expected_version: int | None = None, dry_run: bool = False, command_id: str | None = None
    ) -> CommandOptions:
        """Returns how a command is to be treated. The form's ``command_id`` makes a second click a repeat."""
        given = command_id or self.text("command_id")
        known = is_id(given) and not dry_run
        return CommandOptions(given if known else new_id(), known, expected_version, dry_run, None)

    def may(self, page: str) -> bool:
        """Whether the person may use a page, named as in `CONSOLE_OPERATIONS`."""
        try:
            require_allowed(self.caller.principal, OPERATIONS[CONSOLE_OPERATIONS[page]])
        except Problem:
            return False
        return True

    def page(self, template: str, status: int = 200, *, secret: bool = False, **values: Any) -> Response:
        """Renders a view. One with a secret is neither kept nor compressed."""
        html = rendering.render(
            self.request, template, session=self.session, scope=self.caller.scope, may=self.may, **values
        )
        return html_response(self.request, html, status, compress=not secret)

    def done(self, url: str, announcement: str, part: str = "main") -> Response:
        """Goes on to another view after a change. On the same page, ``part`` alone is drawn anew: its element's id."""
        if not is_htmx(self.request):
            return RedirectResponse(url, 303)
        location = {"path": url, "target": f"#{part}", "select": f"#{part}", "swap": "outerHTML"}
        return Response(
            status_code=200,
            headers={"HX-Location": json.dumps(location), **announce(announcement), "Cache-Control": "no-store"},
        )


def html_response(request: Request, html: str, status: int = 200, *, compress: bool = True) -> Response:
    headers = {
        "Content-Security-Policy": CONTENT_SECURITY_POLICY,
        "Cache-Control": "no-store",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Referrer-Policy": "same-origin",  # with none, a browser does not say where a form comes from
        "Vary": "Accept-Encoding, HX-Request",
    }
    body = html.encode()
    if compress and len(body) > _COMPRESS_ABOVE and "gzip" in request.headers.get("Accept-Encoding", ""):
        body = gzip.compress(body, 5, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return Response(body, status, headers, "text/html; charset=utf-8")


def is_htmx(request: Request) -> bool:
    return request.headers.get("HX-Request") == "true"


def announce(text: str, kind: str = "done") -> dict[str, str]:
    """The header by which the page says something to the person."""
    return {"HX-Trigger": json.dumps({"announce": {"text": text, "kind": kind}})}


def cookie_name(request: Request, name: str) -> str:
    """With TLS no other host and no other path can set a cookie of that name."""
    return f"__Host-{name}" if request.url.scheme == "https" else name


def set_cookie(
    request: Request,
    response: Response,
    name: str,
    value: str,
    *,
    same_site: Literal["strict", "lax"] = "strict",
    max_age: timedelta | None = None,
) -> None:
    """Sets a cookie that scripts cannot read, by default until the browser ends; with an age of 0, deletes it."""
    response.set_cookie(
        cookie_name(request, name),
        value,
        max_age=None if max_age is None else int(max_age.total_seconds()),
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite=same_site,
    )


def set_session_cookie(request: Request, response: Response, session: Session) -> None:
    set_cookie(request, response, COOKIE, session.token)


def issuers_of(request: Request) -> TrustedIssuers:
    issuers: TrustedIssuers = request.app.state.issuers
    return issuers


def require_same_origin(request: Request) -> None:
    """Refuses a form that another site sent. Raises `Problem`."""
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    own = f"{request.url.scheme}://{request.headers.get('Host', '')}"
    if (site or "same-origin") != "same-origin" or (origin or own) != own or (site is None and origin is None):
        raise Problem(403, "CrossSiteForm", "This form was not sent by a page of this console.")


def form_body(request: Request, account: str | None) -> AbstractAsyncContextManager[bytes]:
    """Yields the body of a form, which counts to the account's until the context ends. Raises `Problem`."""
    bodies: RequestBodies = request.app.state.bodies
    return bodies.read(request.headers.raw, request.receive, account, MAX_BODY_BYTES)


def log_on_body(request: Request, address: str | None) -> AbstractAsyncContextManager[bytes]:
    """As `form_body`, of a stranger at the address."""
    bodies: RequestBodies = request.app.state.log_on_bodies
    return bodies.read(request.headers.raw, request.receive, network_of(address), MAX_LOG_ON_BYTES)


def fields_of(body: bytes) -> dict[str, list[str]]:
    """Parses a form. Raises `Problem`."""
    try:
        return parse_qs(body.decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise Problem(400, "BodyUnreadable", "The form cannot be read; send it as the page has it.") from None


async def console_request(request: Request) -> ConsoleRequest:
    """Raises `NotLoggedOn` and `Problem`."""
    changes = request.method == "POST"
    if changes:
        require_same_origin(request)
    token = request.cookies.get(cookie_name(request, COOKIE), "")
    address = client_address(request)
    session = await sessions.use(pool_of(request), issuers_of(request), token, address) if token else None
    if session is None:
        raise NotLoggedOn
    strangers_of(request).recognised(turn_of(request), address)
    _count(request, session.principal)
    page = f"{request.method} /console{request.scope['route'].path_format}"
    caller = Caller(session.principal, session.token, session.account)
    request.state.asked = caller, page
    caller = await admitted(request, caller, CONSOLE_OPERATIONS[page])
    payer = session.principal.payer
    if not changes:
        await begin_turn(turn_of(request), payer)
        return ConsoleRequest(request, session, {}, caller)
    async with form_body(request, payer) as body:
        form = fields_of(body)
        if not hmac.compare_digest("".join(form.get("form_token", [])).encode(), session.form_token.encode()):
            raise Problem(403, "FormTokenWrong", "This page is from an earlier session; reload it, and try again.")
        await begin_turn(turn_of(request), payer, memory_of(body))
    return ConsoleRequest(request, session, form, caller)


Console = Annotated[ConsoleRequest, Depends(console_request)]


def _count(request: Request, principal: Principal) -> None:
    if principal.payer is None:
        return
    rates: RateLimits = request.app.state.request_rates
    wait_s = rates.take(principal.subject, principal.payer)
    if wait_s:
        detail = "The credential or its account has made too many requests; wait a moment, and try again."
        raise Problem(429, "TooManyRequests", detail, retry_after_s=math.ceil(wait_s))

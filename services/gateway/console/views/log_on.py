"""The log-on page, logging on with an API key, and logging off."""

from __future__ import annotations

from datetime import timedelta

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from contracts.ids import is_id
from services.gateway.authentication import sessions
from services.gateway.authentication.api_keys import key_id_of
from services.gateway.authentication.authenticator import authenticate
from services.gateway.authentication.origin import origin_of, refusals_of
from services.gateway.console import rendering
from services.gateway.console.catalogue import _
from services.gateway.console.console_request import (
    COOKIE,
    Console,
    ConsoleRequest,
    announce,
    fields_of,
    html_response,
    is_htmx,
    issuers_of,
    log_on_body,
    require_same_origin,
    set_cookie,
    set_session_cookie,
)
from services.gateway.console.routing import ConsoleRoute
from services.gateway.problems import Problem
from services.gateway.requests import pool_of, turn_of
from services.gateway.strangers import client_address, strangers_of

HOME = "/console/channels"

router = APIRouter(route_class=ConsoleRoute)


@router.get("/log-on")
async def log_on_page(request: Request, next: str = HOME) -> Response:  # noqa: A002 -- the query's name
    return log_on_form(request, next, None)


@router.post("/log-on")
async def log_on(request: Request) -> Response:
    require_same_origin(request)
    address = client_address(request)
    strangers_of(request).count_log_on(address)
    async with turn_of(request).paused(), log_on_body(request, address) as body:
        form = fields_of(body)
    after = "".join(form.get("next", []))
    credential = "".join(form.get("api_key", [])).strip()
    api_key = await authenticate(pool_of(request), credential, address)
    if api_key is None:
        refusals_of(request).log_on_failed("console", key_id_of(credential), origin_of(request))
        return log_on_form(request, after, _("This API key is not valid, or not from here."))
    session = await sessions.start(pool_of(request), api_key)
    response: Response = RedirectResponse(after if is_own(after) else HOME, 303)
    if is_htmx(request):
        response = Response(headers=announce(session.form_token, "form-token"), status_code=204)
    set_session_cookie(request, response, session)
    return response


def log_on_form(request: Request, after: str, refused: str | None) -> Response:
    """Renders the page, or the dialog above a page whose session has ended, with what was wrong, if anything."""
    template = "log_on_again.html" if is_htmx(request) else "log_on.html"
    html = rendering.render(
        request, template, next=after, refused=refused, session=None, issuers=issuers_of(request).of_console
    )
    return html_response(request, html, 200 if refused is None else 422)


def is_own(path: str) -> bool:
    """Whether it is a path of the console, and no address elsewhere."""
    return path.startswith("/console/") and "\\" not in path and path.isprintable()


@router.get("/form-token")
async def form_token(console: Console) -> Response:
    """Lets the forms of a page whose session has ended go on in the session that has begun in another window."""
    return Response(headers=announce(console.session.form_token, "form-token"), status_code=204)


@router.post("/log-off")
async def log_off(console: Console) -> Response:
    await sessions.end(pool_of(console.request), console.session)
    return _logged_off(console)


@router.post("/log-off-everywhere")
async def log_off_everywhere(console: Console) -> Response:
    """Ends all sessions of the person or API key. Their live pages end within a second."""
    await sessions.end_all(pool_of(console.request), console.session.principal)
    return _logged_off(console)


def _logged_off(console: ConsoleRequest) -> Response:
    response = RedirectResponse(rendering.url("log-on"), 303)
    set_cookie(console.request, response, COOKIE, "", max_age=timedelta())
    return response


@router.post("/account")
async def choose_account(console: Console) -> Response:
    """Chooses the account that a key of the platform works on."""
    account = console.text("account").strip()
    if not console.caller.is_platform:
        raise Problem(403, "Forbidden", "The session is for its own account alone.")
    if account and not is_id(account):
        raise Problem(422, "ParameterInvalid", "An account id has 1 to 128 characters of A-Z a-z 0-9 . _ : -")
    await sessions.choose_account(pool_of(console.request), console.session, account or None)
    return RedirectResponse(HOME, 303)

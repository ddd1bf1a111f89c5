"""Logging on at an issuer: there, and back."""

from __future__ import annotations

from datetime import timedelta

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from services.gateway.authentication import sessions
from services.gateway.authentication.oidc import log_on
from services.gateway.authentication.oidc.log_on import NotLoggedOnByIssuer
from services.gateway.authentication.oidc.tokens import IssuerUnavailable
from services.gateway.authentication.origin import origin_of, refusals_of
from services.gateway.console import rendering
from services.gateway.console.catalogue import _
from services.gateway.console.console_request import (
    cookie_name,
    html_response,
    issuers_of,
    set_cookie,
    set_session_cookie,
)
from services.gateway.console.routing import ConsoleRoute
from services.gateway.console.views.log_on import HOME, is_own, log_on_form
from services.gateway.problems import Problem, issuer_unavailable
from services.gateway.requests import pool_of, turn_of
from services.gateway.strangers import client_address, strangers_of

_COOKIE = "switchboard-log-on"

router = APIRouter(route_class=ConsoleRoute)


@router.get("/log-on/issuer")
async def go(request: Request, issuer: str, next: str = HOME) -> Response:  # noqa: A002 -- the query's name
    """Sends the browser to the issuer."""
    issuers = issuers_of(request)
    trusted, redirect_uri = issuers.get(issuer), issuers.configuration.redirect_uri
    if trusted is None or trusted.configuration.console is None or redirect_uri is None:
        raise Problem(404, "RouteUnknown", "The console has no such page.")
    strangers_of(request).count_log_on(client_address(request))
    try:
        address, state = await log_on.begin(pool_of(request), trusted, redirect_uri, next if is_own(next) else HOME)
    except IssuerUnavailable:
        raise issuer_unavailable() from None
    response = RedirectResponse(address, 303)
    # Lax: the issuer's page leads back here, and a strict cookie stays away from what another site leads to.
    set_cookie(request, response, _COOKIE, state, same_site="lax", max_age=log_on.LIFETIME)
    return response


@router.get("/log-on/callback")
async def come_back(request: Request) -> Response:
    """Takes the issuer's answer. A page, because a redirect from the issuer's site would go without a strict cookie."""
    issuers = issuers_of(request)
    kept_state = request.cookies.get(cookie_name(request, _COOKIE), "")
    try:
        async with turn_of(request).paused():  # the issuer may answer slowly
            logged_on = await log_on.complete(
                pool_of(request),
                issuers,
                issuers.configuration.redirect_uri or "",
                kept_state=kept_state,
                answer=dict(request.query_params),
            )
    except IssuerUnavailable:
        raise issuer_unavailable() from None
    except NotLoggedOnByIssuer:
        refusals_of(request).log_on_failed("console", "", origin_of(request))
        response = log_on_form(request, HOME, _("This did not log you on. Try again, or ask who runs Switchboard."))
    else:
        session = await sessions.start_for_person(pool_of(request), logged_on.person, logged_on.claims)
        response = html_response(request, rendering.render(request, "logged_on.html", next=logged_on.next))
        set_session_cookie(request, response, session)
    set_cookie(request, response, _COOKIE, "", same_site="lax", max_age=timedelta())
    return response

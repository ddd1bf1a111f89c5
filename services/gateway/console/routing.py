"""How a view answers when something is wrong: with a page, or with an announcement on the page that is there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.responses import RedirectResponse

from contracts.kafka.publisher import OutcomeTimeout, PublisherError
from services.gateway.console import rendering
from services.gateway.console.console_request import NotLoggedOn, announce, html_response, is_htmx, issuers_of
from services.gateway.problems import Problem, too_many_waiting, unavailable
from services.gateway.request_rules import require_no_nul
from services.infrastructure.fair_queue import QueueFull
from services.infrastructure.postgres import OUTAGES

log = structlog.stdlib.get_logger(__name__)


class ConsoleRoute(APIRoute):
    """A route whose errors are for a person to read."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                require_no_nul(request)
                return await handle(request)
            except NotLoggedOn:
                return _ask_to_log_on(request)
            except Problem as problem:
                return _problem_response(request, problem)
            except QueueFull:
                return _problem_response(request, too_many_waiting())
            except RequestValidationError:
                return _problem_response(request, Problem(404, "RouteUnknown", "The console has no such page."))
            except OutcomeTimeout:
                detail = "The change was sent, but no outcome arrived in time; try again, nothing happens twice."
                return _problem_response(request, Problem(504, "OutcomeTimeout", detail))
            except (PublisherError, *OUTAGES) as error:
                log.warning("request failed", path=request.url.path, status=503, cause=type(error).__name__)
                return _problem_response(request, unavailable("broker or the database"))

        return answer


def _ask_to_log_on(request: Request) -> Response:
    """A form that is open stays as it is: who logs on beside it can send it again."""
    if not is_htmx(request):
        came_from = request.url.path if request.method == "GET" else "/console/channels"
        query = f"?{request.url.query}" if request.url.query and request.method == "GET" else ""
        return RedirectResponse(rendering.url("log-on", next=came_from + query), 303)
    html = rendering.render(request, "log_on_again.html", issuers=issuers_of(request).of_console)
    response = html_response(request, html, 422)
    response.headers["HX-Retarget"] = "#log-on-place"
    response.headers["HX-Reswap"] = "innerHTML"
    response.headers["HX-Reselect"] = "dialog"
    return response


def _problem_response(request: Request, problem: Problem) -> Response:
    if is_htmx(request):
        return Response(status_code=problem.status, headers=announce(problem.detail, "error") | problem.headers)
    html = rendering.render(request, "problem.html", problem=problem, session=None)
    return html_response(request, html, problem.status)

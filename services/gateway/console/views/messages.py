"""Messages: each with the reason of its route, its timeline and its charge, and the dry run of a number."""

from __future__ import annotations

import re
from typing import Any, cast, get_args

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.responses import Response

from contracts.envelope import validation_message
from contracts.message_routing import Category, MessageRouted, Route, RouteMessage, RoutingRefused
from services.gateway.console.catalogue import _
from services.gateway.console.channel_view import channel_view
from services.gateway.console.console_request import Console, ConsoleRequest
from services.gateway.console.forms import Form
from services.gateway.console.routing import ConsoleRoute
from services.gateway.problems import Problem
from services.gateway.requests import pool_of
from services.gateway.routes.messages import would_decide
from services.message_router import message_log

VIEW = "messages"
PAGE = 50
_MESSAGES = f"/channels/{{channel}}/{VIEW}"
_COUNTRY = re.compile(r"[A-Z]{2}")
_CHOICES: dict[str, tuple[str, ...]] = {
    "state": get_args(message_log.MessageState),
    "route": get_args(Route),
    "category": get_args(Category),
}
_EVENTS = {
    "RouteMessage": _("Route asked for"),
    "MessageRouted": _("Routed"),
    "RoutingRefused": _("Refused"),
    "ReportStatus": _("Status reported"),
    "ReservationSettled": _("Reservation ended"),
    "MessageCharged": _("Charged"),
    "SmsFallbackDue": _("An SMS follows"),
    "SmsFallbackWithheld": _("No SMS follows"),
    "DoubleChargeRisk": _("May be charged twice"),
}

router = APIRouter(route_class=ConsoleRoute)


@router.get(_MESSAGES)
async def messages(
    console: Console,
    channel: str,
    state: str = "",
    route: str = "",
    category: str = "",
    country: str = "",
    before: str = "",
) -> Response:
    given = {"state": state, "route": route, "category": category}
    filters = {name: value if value in _CHOICES[name] else "" for name, value in given.items()}
    filters["country"] = country.strip().upper() if _COUNTRY.fullmatch(country.strip().upper()) else ""
    return await _page(console, channel, filters, before)


@router.post(f"{_MESSAGES}/dry-run")
async def dry_run(console: Console, channel: str) -> Response:
    """Says what a message would be routed to now. The number stands in no address."""
    form = _number_form()
    form.submit(console, {name: console.text(name).strip() for name in form.base})
    decision: MessageRouted | RoutingRefused | None = None
    status = 200
    try:
        decision = await would_decide(console.command(channel, dry_run=True), _message(form))
    except Problem as problem:
        status = form.reject(problem)
    if isinstance(decision, RoutingRefused):
        form.errors[""] = decision.sentence
        decision, status = None, 409
    return await _page(console, channel, dict.fromkeys((*_CHOICES, "country"), ""), "", form, decision, status)


def _number_form() -> Form:
    return Form({"recipient": "", "category": "authentication"})


def _message(form: Form) -> RouteMessage:
    try:
        return RouteMessage.model_validate(form.values)
    except ValidationError as error:
        raise Problem(422, "InvalidCommand", validation_message(error)) from None


async def _page(
    console: ConsoleRequest,
    channel: str,
    filters: dict[str, str],
    before: str,
    form: Form | None = None,
    decision: Any = None,
    status: int = 200,
) -> Response:
    try:
        after = message_log.parse_page(before) if before else None
    except ValueError:
        raise Problem(400, "ParameterInvalid", _("There is no such page of the messages.")) from None
    view = await channel_view(console, channel, VIEW)
    chosen = {name: value or None for name, value in filters.items()}
    sought = message_log.MessageFilter(channel, view["settings"].account, before=after, **cast("Any", chosen))
    found, following = await message_log.list_messages(pool_of(console.request), sought, PAGE)
    return console.page(
        "messages.html",
        status,
        messages=found,
        following=following,
        filters=filters,
        choices=_CHOICES,
        form=form or _number_form(),
        decision=decision,
        **view,
    )


@router.get(f"{_MESSAGES}/{{message}}")
async def message_details(console: Console, channel: str, message: str) -> Response:
    view = await channel_view(console, channel, VIEW)
    found = await message_log.get_message(pool_of(console.request), view["settings"].account, channel, message)
    if found is None:
        raise Problem(404, "MessageUnknown", f"The channel has no message {message[:128]!r}.")
    return console.page("message.html", message=found, events=_EVENTS, **view)

"""Messages: their routes decided, listed, shown with their timelines, and their statuses."""

from __future__ import annotations

import math
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from contracts.envelope import validation_message
from contracts.ids import is_id
from contracts.message_routing import Category, MessageRouted, Route, RouteMessage, RoutingRefused, Rule
from contracts.message_status import ReportStatus
from services.gateway.authentication.caller import Caller
from services.gateway.commands import ChannelCommand
from services.gateway.instant import Instant
from services.gateway.judged_commands import JudgedCommand
from services.gateway.limits import RateLimit
from services.gateway.long_polls import polls_of
from services.gateway.problem_types import raises
from services.gateway.problems import Problem, channel_unknown, problem_of_refusal
from services.gateway.reads import ReadRequest, require_channel, wait_for_version
from services.gateway.requests import (
    body_schema,
    message_queue_of,
    message_router_of,
    pool_of,
    turn_of,
)
from services.message_router import message_log
from services.message_router.dry_run import would_route
from services.message_router.message_schemas import Decision, Message, MessagePage, StatusReported

router = APIRouter(prefix="/v1/channels/{channel}", tags=["Messages"])

DECISION_TIMEOUT_S = 15.0
"""More than the 10 s for which the router waits for the ``settings_version`` that a request names."""


@router.post("/message-decisions", response_model=Decision, openapi_extra=body_schema(RouteMessage))
@raises(
    *("AccountMissing", "InvalidRequest", "MessageIdReused", "ChannelRetired", "SettingsNotKnown", "InternalError"),
    *("ReadModelBehind", "TooManyFollowers", "OutcomeTimeout"),
)
async def decide_message(command: JudgedCommand) -> JSONResponse:
    """Decides the route of a message, whose id is the Idempotency-Key; a scheduled one has a unit reserved.

    The same message again gets the same decision. A dry run decides likewise, reserves nothing and keeps nothing.
    """
    command.caller.required_account()
    if not is_id(command.channel):
        raise channel_unknown(command.channel[:128])
    try:
        message = command.with_version(RouteMessage.model_validate(await command.body()))
    except ValidationError as error:
        raise Problem(422, "InvalidCommand", validation_message(error)) from None
    decision = await (would_decide if command.options.dry_run else _decide)(command, message)
    if isinstance(decision, RoutingRefused):
        raise problem_of_refusal(decision)
    return JSONResponse(message_log.shown_decision(decision.model_dump(mode="json")))


async def _decide(command: ChannelCommand, message: RouteMessage) -> MessageRouted | RoutingRefused:
    account = command.caller.required_account()
    turn_of(command.request).end()
    async with message_queue_of(command.request).turn(account):
        routing = await message_router_of(command.request).route(
            message,
            channel=command.channel,
            account=account,
            actor=command.caller.actor,
            message_id=command.options.command_id,
            traceparent=command.options.traceparent,
            timeout=DECISION_TIMEOUT_S,
        )
    return routing.decision


async def would_decide(command: ChannelCommand, message: RouteMessage) -> MessageRouted | RoutingRefused:
    """Returns what the message would be routed to now. Raises `Problem`."""
    request, account, channel = command.request, command.caller.required_account(), command.channel
    _, version = await require_channel(request, command.caller, channel, message.settings_version)
    await require_router_version(request, command.caller, account, channel, version)
    rates, now = request.app.state.rates, request.app.state.now()
    return await would_route(pool_of(request), rates, account, channel, command.options.command_id, message, now)


async def require_router_version(request: Request, caller: Caller, account: str, channel: str, version: int) -> None:
    """Waits until the message router has the version of the settings. Raises `Problem`."""
    if not await wait_for_version(request, caller, polls_of(request).router_settings, (account, channel), version):
        detail = f"The message router does not know version {version} of the settings yet; try again shortly."
        raise Problem(504, "ReadModelBehind", detail)


@router.get("/messages", response_model=MessagePage)
async def list_messages(
    read: ReadRequest,
    state: Annotated[message_log.MessageState | None, Query(description="Only those in this state.")] = None,
    route: Annotated[Route | None, Query(description="Only those with this route.")] = None,
    rule: Annotated[Rule | None, Query(description="Only those whose route this rule decided.")] = None,
    category: Annotated[Category | None, Query(description="Only those of this category.")] = None,
    country: Annotated[
        str | None, Query(pattern="^[A-Z]{2}$", description="Only those to this country (ISO 3166-1).")
    ] = None,
    since: Instant | None = None,
    until: Instant | None = None,
    before: Annotated[str | None, Query(max_length=160)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """Lists the channel's messages, newest first, without recipients; continue with `before`."""
    account, _ = await read.require_channel()
    try:
        page = None if before is None else message_log.parse_page(before)
    except ValueError:
        raise Problem(400, "ParameterInvalid", "'before' must be a previous page's 'next'.") from None
    chosen = message_log.MessageFilter(
        read.channel,
        account,
        state,
        route,
        rule,
        category,
        country,
        None if since is None else int(since.timestamp() * 1000),
        None if until is None else int(until.timestamp() * 1000),
        page,
    )
    messages, following = await message_log.list_messages(pool_of(read.request), chosen, limit)
    return {"messages": messages, "next": following}


@router.get("/messages/{message}", response_model=Message)
@raises("MessageUnknown")
async def show_message(read: ReadRequest, message: str) -> dict[str, Any]:
    """Shows a message with its timeline: decision, reservation, statuses, SMS fallback, charge."""
    account, _ = await read.require_channel()
    found = await message_log.get_message(pool_of(read.request), account, read.channel, message)
    if found is None:
        detail = f"The channel has no message {message[:128]!r}."
        raise Problem(404, "MessageUnknown", detail, channel=read.channel, message=message[:128])
    return found


@router.post(
    "/messages/{message}/statuses",
    status_code=202,
    response_model=StatusReported,
    openapi_extra=body_schema(ReportStatus, "message"),
)
@raises("AccountMissing")
async def report_status(command: JudgedCommand, message: str) -> JSONResponse:
    """Reports what the chat app or the SMS product said of a message.

    A status counts once, however often it is reported, and one that comes before its message is decided waits for it.
    Of messages that are not known at all an account may report 10,000 a day.
    """
    account = command.caller.required_account()
    await command.require_channel()
    try:
        status = ReportStatus.model_validate(await command.body(message=message))
    except ValidationError as error:
        raise Problem(422, "InvalidCommand", validation_message(error)) from None
    if command.options.dry_run:
        raise Problem(422, "InvalidCommand", "A status has no dry run: it states what happened.")
    await _count_if_early(command, account, message)
    report_id = await message_router_of(command.request).report_status(
        status,
        channel=command.channel,
        account=account,
        actor=command.caller.actor,
        report_id=command.options.command_id,
    )
    return JSONResponse({"report_id": report_id, "message": message}, 202)


async def _count_if_early(command: JudgedCommand, account: str, message: str) -> None:
    """Counts a status of a message that is not known, because it will be kept. Raises `Problem` for one too many."""
    payer, pool = command.caller.principal.payer, pool_of(command.request)
    if payer is None or await message_log.is_known(pool, account, command.channel, message):
        return
    rate: RateLimit = command.request.app.state.early_status_rate
    if wait_s := rate.wait_s(payer):
        detail = "The account has reported too many statuses of messages that are not known; go on after Retry-After."
        raise Problem(429, "TooManyRequests", detail, retry_after_s=math.ceil(wait_s))
    rate.take(payer)

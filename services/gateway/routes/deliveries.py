"""Deliveries: list, show, and replay signed calls."""

from __future__ import annotations

import math
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from contracts.envelope import validation_message
from contracts.ids import ID_PATTERN, SystemId
from contracts.invocation import DeliveryState
from services.gateway.authentication.caller import Authenticated, Caller, confined
from services.gateway.instant import Instant
from services.gateway.limits import RateLimit
from services.gateway.problem_types import raises
from services.gateway.problems import Problem
from services.gateway.requests import body_schema, json_body, pool_of
from services.invoker import delivery_log
from services.invoker.delivery_schemas import DeliveryPage, DeliveryWithBodies, Replayed

router = APIRouter(prefix="/v1/deliveries", tags=["Deliveries"])

MAX_REPLAYED_AT_ONCE = 10_000


@router.get("", response_model=DeliveryPage)
async def list_deliveries(
    request: Request,
    caller: Authenticated,
    state: Annotated[list[DeliveryState] | None, Query(description="Only those in these states.")] = None,
    channel: str | None = None,
    system: str | None = None,
    since: Instant | None = None,
    until: Instant | None = None,
    before: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """Lists the account's signed calls, newest first, with every attempt; continue with `before`."""
    selection = delivery_log.DeliveryFilter(
        caller.account, channel, system, tuple(state or ()), since, until, before=before
    )
    deliveries = await delivery_log.list_deliveries(pool_of(request), selection, limit)
    return {"deliveries": deliveries, "next": deliveries[-1]["id"] if len(deliveries) == limit else None}


@router.get("/{delivery}", response_model=DeliveryWithBodies)
@raises("DeliveryUnknown")
async def show_delivery(request: Request, caller: Authenticated, delivery: str) -> dict[str, Any]:
    """Shows one signed call with the response to every attempt."""
    return await _delivery(request, caller, delivery)


@router.post("/{delivery}/replay", status_code=202, response_model=DeliveryWithBodies)
@raises("DeliveryUnknown", "DeliveryNotReplayable", "TooManyReplays")
async def replay_delivery(request: Request, caller: Authenticated, delivery: str) -> JSONResponse:
    """Sends a signed call again with the same webhook-id. Its attempts and its time to live start anew."""
    found = await _delivery(request, caller, delivery)
    selection = delivery_log.DeliveryFilter(found["account"], id=delivery)
    replayed, _ = await replay_within_rate(request, caller, selection, 1)
    if replayed:
        return JSONResponse(await delivery_log.get_delivery(pool_of(request), found["account"], delivery), 202)
    found = await _delivery(request, caller, delivery)
    detail = "A test call cannot be replayed; make another one." if found["test"] else "The delivery has not ended yet."
    raise Problem(409, "DeliveryNotReplayable", detail, delivery=delivery, state=found["state"])


async def _delivery(request: Request, caller: Caller, delivery: str) -> dict[str, Any]:
    """Raises `Problem` where there is none, or its channel is not in the caller's scope; both take the same queries."""
    unknown = Problem(404, "DeliveryUnknown", f"The account has no delivery {delivery!r}.", delivery=delivery)
    pool = pool_of(request)
    if caller.is_narrow:
        try:
            caller = await confined(caller, pool, [await delivery_log.channel_of(pool, delivery) or ""])
        except Problem:
            raise unknown from None
    found = await delivery_log.get_delivery(pool, caller.account, delivery)
    if found is None:
        raise unknown
    return found


async def replay_within_rate(
    request: Request, caller: Caller, selection: delivery_log.DeliveryFilter, wanted: int
) -> tuple[list[str], int]:
    """Replays at most ``wanted`` deliveries, and what is left of the account's minute. The platform has no rate.

    Returns their ids, and how many were allowed. Raises `Problem` if none is left.
    """
    rate: RateLimit = request.app.state.replay_rate
    account, allowed = caller.account, wanted
    if account is not None:
        if wait_s := rate.wait_s(account):
            detail = "The account has replayed as many deliveries as it may in a minute; go on after Retry-After."
            raise Problem(429, "TooManyReplays", detail, retry_after_s=math.ceil(wait_s))
        allowed = min(wanted, rate.remaining(account))
        rate.take(account, allowed)
    replayed: list[str] = []
    try:
        replayed = await delivery_log.replay(pool_of(request), selection, caller.actor, allowed)
    finally:
        if account is not None:
            rate.take(account, len(replayed) - allowed)
    return replayed, allowed


class ReplayMany(BaseModel):
    """Selects the deliveries to send again, at most ``limit`` at once. Repeat the request while ``more`` is true."""

    model_config = ConfigDict(extra="forbid")

    channel: Annotated[str, StringConstraints(pattern=ID_PATTERN)] | None = None
    system: SystemId | None = None
    states: Annotated[tuple[DeliveryState, ...], Field(min_length=1)] = ("dead",)
    since: Instant | None = None
    until: Instant | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_REPLAYED_AT_ONCE)] = 1_000


@router.post("/replay", status_code=202, response_model=Replayed, openapi_extra=body_schema(ReplayMany))
@raises("AccountMissing", "ReplayInvalid", "StateNotReplayable", "TooManyReplays")
async def replay_deliveries(request: Request, caller: Authenticated) -> dict[str, Any]:
    """Sends many deliveries again, by default the dead ones. The platform names an account in Switchboard-Account.

    An account may replay 10,000 a minute: of a request beyond that, as many are replayed as are left.
    """
    try:
        asked = ReplayMany.model_validate(await json_body(request, {}))
    except ValidationError as error:
        raise Problem(422, "ReplayInvalid", validation_message(error)) from None
    refused = sorted(set(asked.states) - set(delivery_log.REPLAYABLE))
    if refused:
        raise Problem(422, "StateNotReplayable", f"Only ended or parked deliveries can be replayed, not {refused}.")
    selection = delivery_log.DeliveryFilter(
        caller.required_account(), asked.channel, asked.system, asked.states, asked.since, asked.until
    )
    replayed, allowed = await replay_within_rate(request, caller, selection, asked.limit)
    return {"replayed": len(replayed), "more": len(replayed) == allowed}

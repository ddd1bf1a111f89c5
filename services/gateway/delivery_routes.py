"""Signed calls over HTTP: the delivery log, sending again, test calls, which signature a receiver accepts, metrics."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from contracts import topics
from contracts.envelope import problem_of
from contracts.invocation import DeliveryState, InvokeIntent, MakeTestCall
from contracts.outcome import CommandAccepted
from contracts.settings import BusinessSystemSettings
from services.gateway.problems import Problem
from services.gateway.requests import Authenticated, Commanding, Reading, pool_of, publisher_of, read_settings
from services.invoker import deliveries, metrics

router = APIRouter()

LONGEST_TEST_CALL_S = 25.0
MOST_AT_ONCE = 10_000
_LOOK_EVERY_S = 0.05
_SYSTEM = "/v1/channels/{channel}/business-systems/{system}"


def _unknown(delivery: str) -> Problem:
    return Problem(404, "DeliveryUnknown", f"The account has no delivery {delivery!r}.", delivery=delivery)


@router.get("/v1/deliveries", tags=["deliveries"])
async def list_deliveries(
    request: Request,
    caller: Authenticated,
    state: Annotated[list[DeliveryState] | None, Query()] = None,
    channel: str | None = None,
    system: str | None = None,
    since: AwareDatetime | None = None,
    until: AwareDatetime | None = None,
    before: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """The account's signed calls, the newest first, with every attempt; go on with ``before``."""
    chosen = deliveries.Chosen(caller.account, channel, system, tuple(state or ()), since, until, before=before)
    found = await deliveries.listed(pool_of(request), chosen, limit)
    return {"deliveries": found, "next": found[-1]["id"] if len(found) == limit else None}


@router.get("/v1/deliveries/{delivery}", tags=["deliveries"])
async def show_delivery(request: Request, caller: Authenticated, delivery: str) -> dict[str, Any]:
    """One signed call, with what was answered at every attempt."""
    found = await deliveries.shown(pool_of(request), caller.account, delivery)
    if found is None:
        raise _unknown(delivery)
    return found


@router.post("/v1/deliveries/{delivery}/replay", tags=["deliveries"], status_code=202)
async def replay_delivery(request: Request, caller: Authenticated, delivery: str) -> JSONResponse:
    """Sends it again, with the same webhook-id; attempts and its time to live count anew."""
    chosen = deliveries.Chosen(caller.account, id=delivery)
    if await deliveries.replay(pool_of(request), chosen, caller.actor, 1):
        return JSONResponse(await deliveries.shown(pool_of(request), caller.account, delivery), 202)
    found = await deliveries.shown(pool_of(request), caller.account, delivery)
    if found is None:
        raise _unknown(delivery)
    detail = "A test call is not repeated; make another one." if found["test"] else "It has not ended yet."
    raise Problem(409, "DeliveryNotReplayable", detail, delivery=delivery, state=found["state"])


class ReplayMany(BaseModel):
    """Which deliveries to send again. ``limit``: at most so many at once; call again while ``more``."""

    model_config = ConfigDict(extra="forbid")

    channel: str | None = None
    system: str | None = None
    states: tuple[DeliveryState, ...] = ("dead",)
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    limit: Annotated[int, Field(ge=1, le=MOST_AT_ONCE)] = 1_000


@router.post("/v1/deliveries/replay", tags=["deliveries"], status_code=202)
async def replay_deliveries(request: Request, caller: Authenticated, asked: ReplayMany) -> dict[str, Any]:
    """Sends many again: by default what is dead. A caller for all accounts names one in Switchboard-Account."""
    refused = sorted(set(asked.states) - set(deliveries.REPLAYABLE))
    if refused:
        raise Problem(422, "StateNotReplayable", f"Only what ended or is parked is sent again, not {refused}.")
    since: datetime | None = asked.since
    chosen = deliveries.Chosen(caller.required_account(), asked.channel, asked.system, asked.states, since, asked.until)
    replayed = await deliveries.replay(pool_of(request), chosen, caller.actor, asked.limit)
    return {"replayed": len(replayed), "more": len(replayed) == asked.limit}


@router.post(_SYSTEM + "/test-calls", tags=["business systems"])
async def make_test_call(commanding: Commanding, system: str) -> JSONResponse:
    """Calls the system exactly as a real delivery does, once, and answers with the attempt; disabled or not.

    With ``key_id`` in the body it carries that signature alone, which proves whether the receiver knows it.
    """
    commanding.caller.required_account()
    read = await read_settings(commanding.request, commanding.caller, commanding.channel, None)
    _opened(read.settings.business_systems, system)
    try:
        asked = MakeTestCall.model_validate(await commanding.body(system=system))
    except ValidationError as error:
        raise Problem(422, "InvalidCommand", problem_of(error)) from None
    if commanding.options.dry_run:
        raise Problem(422, "InvalidCommand", "A test call cannot be dry: calling is all that it does.")
    request_id, found = await request_call(commanding, asked, LONGEST_TEST_CALL_S)
    if found is not None and found["ended_at"] is not None:
        attempt = found["attempt_log"][-1] if found["attempt_log"] else None
        return JSONResponse({"request_id": request_id, "attempt": attempt, "delivery": found})
    detail = f"The test call was not made within {LONGEST_TEST_CALL_S:g} s; /v1/deliveries shows what becomes of it."
    raise Problem(504, "TestCallPending", detail, request_id=request_id)


async def request_call(
    commanding: Commanding, asked: InvokeIntent | MakeTestCall, wait: float
) -> tuple[str, dict[str, Any] | None]:
    """Publishes a request, and waits so many seconds for its end; its id and the delivery as it is then.

    Raises `Problem` where another request had the id before.
    """
    account, channel, pool = commanding.caller.required_account(), commanding.channel, pool_of(commanding.request)
    request_id = commanding.options.command_id
    found = await deliveries.find(pool, account, channel, request_id) if commanding.options.idempotent else None
    if found is None:
        await publisher_of(commanding.request).publish(
            asked,
            channel=channel,
            topic=topics.INVOCATION_REQUESTS.name,
            account=account,
            actor=commanding.caller.actor,
            command_id=request_id,
            traceparent=commanding.options.traceparent,
        )
    deadline = asyncio.get_running_loop().time() + wait
    while (found is None or found["ended_at"] is None) and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(_LOOK_EVERY_S)
        found = await deliveries.find(pool, account, channel, request_id)
    if found is not None and not deliveries.asks_the_same(found, asked):
        detail = f"Another request had the id {request_id!r} before; send this one with another Idempotency-Key."
        raise Problem(409, "RequestIdReused", detail, request_id=request_id, delivery=found["id"])
    return request_id, found


def _opened(systems: tuple[BusinessSystemSettings, ...], system: str) -> BusinessSystemSettings:
    for one in systems:
        if one.system == system:
            return one
    detail = f"No business system {system!r} is open on this channel."
    raise Problem(404, "BusinessSystemUnknown", detail, system=system)


@router.get(_SYSTEM + "/signatures", tags=["signatures"])
async def list_signatures(reading: Reading, system: str) -> dict[str, Any]:
    """The valid signatures, and which of them the receiver is known to accept: ``accepted_at`` null means not known."""
    read = await reading.settings()
    found = _opened(read.settings.business_systems, system)
    proofs = await deliveries.acceptances(pool_of(reading.request), reading.channel, system)
    unknown = {"accepted_at": None, "accepted_how": None, "delivery": None}
    return {"signatures": [one.model_dump() | proofs.get(one.key_id, unknown) for one in found.signatures]}


@router.post(_SYSTEM + "/signature/{key_id}/retirement", tags=["signatures"])
async def retire_signature(commanding: Commanding, system: str, key_id: str) -> JSONResponse:
    """Revokes an old signature, but only if the receiver is known to accept the newest one; the proof is shown."""
    pool = pool_of(commanding.request)
    read = await read_settings(commanding.request, commanding.caller, commanding.channel, None)
    newest = next(one for one in _opened(read.settings.business_systems, system).signatures if one.valid_until is None)
    if key_id == newest.key_id:
        raise Problem(409, "SignatureIsNewest", "It is the newest signature; draw another one first.", key_id=key_id)
    proof = (await deliveries.acceptances(pool, commanding.channel, system)).get(newest.key_id)
    if proof is None:
        detail = (
            f"Nothing shows yet that the receiver accepts signature {newest.key_id}. Make a test call with it alone, "
            "or let the receiver name the signature that it verified in its answer's header webhook-key-id."
        )
        raise Problem(409, "SignatureNotProven", detail, key_id=newest.key_id)
    outcome = await commanding.send("RevokeSignature", {"system": system, "key_id": key_id})
    accepted = outcome.body
    version = accepted.version if isinstance(accepted, CommandAccepted) else None
    body = {"command_id": outcome.command_id, "version": version, "proof": {"key_id": newest.key_id, **proof}}
    return JSONResponse(body)


@router.get("/metrics", include_in_schema=False)
async def metrics_now(request: Request) -> Response:
    return Response(await metrics.exposition(pool_of(request)), media_type=CONTENT_TYPE_LATEST)

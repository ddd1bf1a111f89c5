"""Requests for signed calls: of an intent, or as a test of a business system."""

from __future__ import annotations

import math
from contextlib import AsyncExitStack, suppress
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from contracts import topics
from contracts.envelope import validation_message
from contracts.invocation import InvokeIntent, MakeTestCall, TriggerIntent
from services.gateway.authentication.origin import origin_of
from services.gateway.commands import ChannelCommand
from services.gateway.judged_commands import JudgedCommand
from services.gateway.long_polls import long_poll, polls_of, wait_for
from services.gateway.problem_types import raises
from services.gateway.problems import Problem
from services.gateway.reads import ReadRequest, wait_for_version
from services.gateway.requests import (
    body_schema,
    pool_of,
    publisher_of,
    schema_queue_of,
    schemas_of,
    test_call_of,
    turn_of,
)
from services.infrastructure.fair_queue import QueueFull
from services.invoker import delivery_log
from services.invoker.delivery_schemas import InvocationList, Invoked, TestCall, WouldCall, WouldRefuse
from services.invoker.queue.rate_of_test_calls import TEST_CALLS_PER_MINUTE, wait_of_test_call

router = APIRouter(prefix="/v1/channels/{channel}")

TEST_CALL_TIMEOUT_S = 25.0
_Test = TypeVar("_Test", MakeTestCall, TriggerIntent)
_OF_CALLS = ("AccountMissing", "RequestIdReused", "DeliveryQuotaExceeded", "TooManyFollowers")


@router.post(
    "/invocations",
    tags=["Invocations"],
    status_code=202,
    response_model=Invoked,
    responses={200: {"model": Invoked | WouldCall | WouldRefuse, "description": "The call has ended; or a dry run."}},
    openapi_extra=body_schema(InvokeIntent),
)
@raises(*_OF_CALLS)
async def invoke_intent(command: JudgedCommand, wait: Annotated[float, Query(ge=0, le=30)] = 0) -> JSONResponse:
    """Requests a call of an intent. Answers 202 with the request's id; with `wait`, 200 if the call ended.

    A dry run answers with what would happen, and calls nobody.
    """
    account, channel = command.caller.required_account(), command.channel
    await command.require_channel()
    try:
        invocation = command.with_version(InvokeIntent.model_validate(await command.body()))
    except ValidationError as error:
        raise Problem(422, "InvalidCommand", validation_message(error)) from None
    if command.options.dry_run:
        pool, schemas = pool_of(command.request), schemas_of(command.request)
        if invocation.settings_version is not None:
            polls, least = polls_of(command.request), invocation.settings_version
            await wait_for_version(command.request, command.caller, polls.invoker_settings, (account, channel), least)
        turn_of(command.request).end()
        async with schema_queue_of(command.request).turn(account):
            return JSONResponse(await delivery_log.dry_run(pool, account, channel, invocation, schemas))
    request_id, delivery = await request_call(command, invocation, wait)
    ended = delivery is not None and delivery["ended_at"] is not None
    return JSONResponse({"request_id": request_id, "delivery": delivery}, 200 if ended else 202)


@router.get("/invocations", tags=["Invocations"], response_model=InvocationList)
async def list_invocations(read: ReadRequest, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> dict[str, Any]:
    """Lists the channel's signed calls, newest first, with every attempt."""
    await read.require_channel()
    pool = pool_of(read.request)
    return {"invocations": await delivery_log.newest_of_channel(pool, read.caller.account, read.channel, limit)}


@router.post(
    "/business-systems/{system}/test-calls",
    tags=["Business systems"],
    response_model=TestCall,
    openapi_extra=body_schema(MakeTestCall, "system"),
)
@raises(*_OF_CALLS, "BusinessSystemUnknown", "TooManyTestCalls", "TestCallPending")
async def make_test_call(command: JudgedCommand, system: str) -> JSONResponse:
    """Calls the system once, exactly as a real delivery does, and returns the attempt; also if the system is disabled.

    With `key_id` in the body the call carries that signature alone, which proves whether the receiver knows it.
    """
    command.caller.required_account()
    (await command.settings()).system(system)
    return await _made(command, MakeTestCall, await command.body(system=system))


@router.post(
    "/business-systems/{system}/intents/{code}/trigger",
    tags=["Listeners"],
    response_model=TestCall,
    openapi_extra=body_schema(TriggerIntent, "system", "code"),
)
@raises(*_OF_CALLS, "BusinessSystemUnknown", "IntentUnknown", "TooManyTestCalls", "TestCallPending")
async def trigger_intent(command: JudgedCommand, system: str, code: str) -> JSONResponse:
    """Calls an intent once as a test, and returns the attempt.

    The call goes to whoever listens for calls of the channel, not to the business system, and carries none of its
    signatures.
    """
    command.caller.required_account()
    (await command.settings()).intent(system, code)
    return await _made(command, TriggerIntent, await command.body(system=system, code=code))


async def _made(command: JudgedCommand, kind: type[_Test], body: dict[str, Any]) -> JSONResponse:
    """Makes a call as a test and waits for its end. Raises `Problem`."""
    try:
        test_call = command.with_version(kind.model_validate(body))
    except ValidationError as error:
        raise Problem(422, "InvalidCommand", validation_message(error)) from None
    if command.options.dry_run:
        raise Problem(422, "InvalidCommand", "A test call has no dry run: it does nothing but call.")
    request_id, delivery = await request_call(command, test_call, TEST_CALL_TIMEOUT_S)
    if delivery is not None and delivery["ended_at"] is not None:
        attempt = delivery["attempt_log"][-1] if delivery["attempt_log"] else None
        return JSONResponse({"request_id": request_id, "attempt": attempt, "delivery": delivery})
    detail = f"The test call was not made within {TEST_CALL_TIMEOUT_S:g} s; /v1/deliveries shows what becomes of it."
    raise Problem(504, "TestCallPending", detail, request_id=request_id)


async def request_call(
    command: ChannelCommand, invocation: InvokeIntent | MakeTestCall | TriggerIntent, wait_s: float
) -> tuple[str, dict[str, Any] | None]:
    """Publishes a request and waits up to ``wait_s`` for its end. Returns its id and its delivery, if there is one yet.

    Raises `Problem` if another request already has the id, and, before it publishes, if too many requests wait.
    """
    async with AsyncExitStack() as held:
        if wait_s:
            await held.enter_async_context(long_poll(command.request, command.caller))
        if not isinstance(invocation, InvokeIntent):
            held.enter_context(test_call_of(command.request, command.caller.account))
        return await _publish_and_wait(command, invocation, wait_s)


async def _require_quota(
    request: Request,
    account: str,
    channel: str,
    request_id: str,
    invocation: InvokeIntent | MakeTestCall | TriggerIntent,
) -> None:
    """Raises `Problem` where the invoker would refuse the request."""
    quota = request.app.state.limits.stored_bytes_per_account
    if await delivery_log.is_over_quota(pool_of(request), account, quota):
        detail = f"The account's deliveries take more than {quota:,} bytes; first some have to end."
        raise Problem(429, "DeliveryQuotaExceeded", detail, retry_after_s=600)
    if not isinstance(invocation, InvokeIntent):
        wait_s = await wait_of_test_call(pool_of(request), (account, channel, request_id))
        if wait_s:
            detail = f"An account may make {TEST_CALLS_PER_MINUTE} test calls a minute."
            raise Problem(429, "TooManyTestCalls", detail, retry_after_s=math.ceil(wait_s))


async def _publish_and_wait(
    command: ChannelCommand, invocation: InvokeIntent | MakeTestCall | TriggerIntent, wait_s: float
) -> tuple[str, dict[str, Any] | None]:
    account, channel, pool = command.caller.required_account(), command.channel, pool_of(command.request)
    request_id = command.options.command_id
    delivery = (
        await delivery_log.find_by_request(pool, account, channel, request_id) if command.options.idempotent else None
    )
    if delivery is None:
        await _require_quota(command.request, account, channel, request_id, invocation)
        await publisher_of(command.request).publish(
            invocation,
            channel=channel,
            topic=topics.INVOCATION_REQUESTS.name,
            account=account,
            actor=command.caller.actor,
            origin=origin_of(command.request, command.caller.principal),
            command_id=request_id,
            traceparent=command.options.traceparent,
        )
    if wait_s and (delivery is None or delivery["ended_at"] is None):
        key = (account, channel, request_id)
        with suppress(QueueFull):  # the request is published, and its id is to be told
            await wait_for(command.request, polls_of(command.request).deliveries, key, wait_s)
            delivery = await delivery_log.find_by_request(pool, account, channel, request_id)
    if delivery is not None and not delivery_log.is_same_request(delivery, invocation):
        detail = f"Another request already has the id {request_id!r}; send this one with another Idempotency-Key."
        raise Problem(409, "RequestIdReused", detail, request_id=request_id, delivery=delivery["id"])
    return request_id, delivery

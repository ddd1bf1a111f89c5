"""Listeners: fetch the calls that are made as tests, answer them, leave."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from contracts.envelope import validation_message
from contracts.ids import ID_PATTERN, SystemId, is_id
from services.gateway.long_polls import long_poll, polls_of, wait_for
from services.gateway.problem_types import raises
from services.gateway.problems import Problem
from services.gateway.reads import ReadRequest
from services.gateway.requests import body_schema, json_body, pool_of
from services.invoker.delivery_schemas import ListenerLeft, OfferedCalls, TakenAnswer
from services.invoker.queue import listeners

router = APIRouter(prefix="/v1/channels/{channel}/listeners/{listener}", tags=["Listeners"])

MAX_WAIT_S = 3
"""Short, so that a gateway that is to stop need not end a wait."""
_Delivery = Annotated[str, StringConstraints(pattern=ID_PATTERN)]


class Listening(BaseModel):
    """What a listener asks for: the calls of one business system or of all, without those that it is working on."""

    model_config = ConfigDict(extra="forbid", strict=True)

    system: SystemId | None = None
    known: Annotated[list[_Delivery], Field(max_length=100)] = []


class Answer(BaseModel):
    """What a listener's receiver answered: a status with a body in base64, or the failure because of which it did not.

    Of a body beyond 64 KiB, send a little more than that: it is cut, and is no result.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    status: Annotated[int, Field(ge=200, le=599)] | None = None
    body: Annotated[str, StringConstraints(max_length=88_000, pattern=r"^[A-Za-z0-9+/]*={0,2}$")] = ""
    failure: listeners.ListenerFailure | None = None


@router.put("", response_model=OfferedCalls, openapi_extra=body_schema(Listening))
@raises("AccountMissing", "TooManyListeners", "TooManyFollowers")
async def listen(
    read: ReadRequest,
    listener: str,
    wait: Annotated[float, Query(ge=0, le=MAX_WAIT_S)] = 0,
) -> dict[str, Any]:
    """Begins to listen, or goes on, and returns the calls that wait for an answer.

    A listener that does not ask again for 45 s has left. Several listeners get the same calls.
    """
    account = await _account(read, listener)
    try:
        asked = Listening.model_validate(await json_body(read.request, {}))
    except ValidationError as error:
        raise Problem(422, "InvalidCommand", validation_message(error)) from None
    pool = pool_of(read.request)
    if not await listeners.listen(pool, account, read.channel, listener, asked.system):
        detail = f"An account may have {listeners.LISTENERS_PER_ACCOUNT} listeners at a time; end one first."
        raise Problem(429, "TooManyListeners", detail, retry_after_s=5)
    calls = await listeners.open_calls(pool, account, read.channel, asked.system, asked.known)
    if wait and not calls:
        key = listeners.CallsWanted(account, read.channel, asked.system, frozenset(asked.known))
        async with long_poll(read.request, read.caller):
            if await wait_for(read.request, polls_of(read.request).listener_calls, key, wait):
                calls = await listeners.open_calls(pool, account, read.channel, asked.system, asked.known)
    return {"calls": calls}


@router.put("/answers/{delivery}", response_model=TakenAnswer, openapi_extra=body_schema(Answer))
@raises("AccountMissing", "CallNotOffered", "CallAnswered", "CallOver")
async def answer_call(read: ReadRequest, listener: str, delivery: str) -> dict[str, Any]:
    """Answers a call. The first answer of any listener is the result of the call; to repeat one changes nothing."""
    account = await _account(read, listener)
    try:
        given = Answer.model_validate(await json_body(read.request, {}))
        body = base64.b64decode(given.body, validate=True)
    except ValidationError as error:
        raise Problem(422, "InvalidCommand", validation_message(error)) from None
    except binascii.Error:
        raise Problem(422, "InvalidCommand", "'body' is wrong: it is no base64.") from None
    if given.status is None and given.failure is None:
        raise Problem(422, "InvalidCommand", "'status' or 'failure' is missing.")
    if given.status is not None and given.failure is not None:
        raise Problem(422, "InvalidCommand", "'status' and 'failure' are given; give one of them.")
    answer = listeners.ListenerAnswer(given.status, body, given.failure)
    match await listeners.answer_call(pool_of(read.request), account, read.channel, delivery, listener, answer):
        case "unknown":
            detail = "No call of this delivery was offered to the channel's listeners."
            raise Problem(404, "CallNotOffered", detail, delivery=delivery)
        case "answered":
            detail = "Another listener answered first; its answer is the result."
            raise Problem(409, "CallAnswered", detail, delivery=delivery)
        case "late":
            detail = "The time of the call was over before this answer came."
            raise Problem(409, "CallOver", detail, delivery=delivery)
        case "counts":
            return {"delivery": delivery}


@router.delete("", response_model=ListenerLeft)
@raises("AccountMissing")
async def leave(read: ReadRequest, listener: str) -> dict[str, Any]:
    """Ends a listener, if there is one."""
    account = await _account(read, listener)
    await listeners.leave(pool_of(read.request), account, read.channel, listener)
    return {"listener": listener}


async def _account(read: ReadRequest, listener: str) -> str:
    """The account that the channel must be of. Raises `Problem`."""
    account = read.caller.required_account()
    if not is_id(listener):
        raise Problem(400, "ParameterInvalid", "A listener's id has 1 to 128 characters of A-Z a-z 0-9 . _ : -.")
    await read.require_channel()
    return account

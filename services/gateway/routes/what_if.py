"""What would have become of a channel's messages under other settings."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, ValidationError

from contracts.envelope import validation_message
from contracts.otp_scheduling import OtpSchedulingSettings
from contracts.spend_guard import SpendGuardSettings
from services.gateway.authentication.caller import Caller
from services.gateway.problem_types import raises
from services.gateway.problems import Problem
from services.gateway.reads import ReadRequest
from services.gateway.requests import body_schema, json_body, pool_of, turn_of
from services.gateway.routes.messages import require_router_version
from services.message_router.message_schemas import WhatIfReport
from services.message_router.what_if import Proposal, TooManyMessages, UnknownChannel
from services.message_router.what_if import what_if as replay

router = APIRouter(prefix="/v1/channels/{channel}", tags=["Messages"])

MAX_DAYS = 31
MAX_MESSAGES = 50_000
"""Some seconds of work."""
_DAY_MS = 24 * 60 * 60 * 1_000


class ProposedSettings(BaseModel):
    """Sections as they would be saved; one that is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")

    otp_scheduling: OtpSchedulingSettings | None = None
    spend_guard: SpendGuardSettings | None = None


@router.post("/what-if", response_model=WhatIfReport, openapi_extra=body_schema(ProposedSettings))
@raises("ChannelUnknown", "InvalidRequest", "WhatIfTooLarge")
async def what_if(
    read: ReadRequest,
    first: Annotated[date | None, Query(alias="from", description="A UTC day; default: 30 days before `to`.")] = None,
    last: Annotated[date | None, Query(alias="to", description="A UTC day, included; default: today.")] = None,
) -> dict[str, Any]:
    """Says how recorded messages of some days would have been routed and charged under other settings. Nothing changes.

    At most 31 days and 50,000 messages; `switchboard messages what-if` has no such limit.
    """
    try:
        proposed = ProposedSettings.model_validate(await json_body(read.request, {}))
    except ValidationError as error:
        raise Problem(422, "InvalidRequest", validation_message(error)) from None
    account, version = await read.require_channel()
    if read.min_version is not None:
        await require_router_version(read.request, read.caller, account, read.channel, version)
    return {"countries": await replayed(read.request, read.caller, read.channel, proposed, first, last)}


async def replayed(
    request: Request,
    caller: Caller,
    channel: str,
    proposed: ProposedSettings,
    first: date | None = None,
    last: date | None = None,
) -> list[dict[str, Any]]:
    """What would differ, by country, on a channel that the caller may see. Raises `Problem` and `QueueFull`."""
    last = last or datetime.fromtimestamp(request.app.state.now() / 1000, UTC).date()
    try:
        first = first or last - timedelta(MAX_DAYS - 1)
        since, until = _midnight(first), _midnight(last + timedelta(days=1))
    except OverflowError:  # before the first year, or after the last
        since, until = 0, -1
    if not 0 < until - since <= MAX_DAYS * _DAY_MS:
        detail = f"'from' must be a day before 'to' or the same, and both within {MAX_DAYS} days."
        raise Problem(400, "ParameterInvalid", detail)
    form, guard = proposed.otp_scheduling, proposed.spend_guard
    proposal = Proposal(form and form.canonical(), guard and guard.canonical(), None, None)
    turn_of(request).end()
    async with request.app.state.what_if_queue.turn(caller.account or channel):
        try:
            return await replay(pool_of(request), channel, proposal, since, until, most=MAX_MESSAGES)
        except UnknownChannel:  # the message router is behind: it has routed nothing there
            return []
        except TooManyMessages:
            detail = f"There are more than {MAX_MESSAGES:,} messages in these days; ask for fewer days."
            raise Problem(409, "WhatIfTooLarge", detail) from None


def _midnight(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)

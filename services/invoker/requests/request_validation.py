"""Whether a request can be served with the settings in the replica now."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, assert_never

from pydantic_core import to_json

from contracts.invocation import TEST_CALL
from contracts.message import rfc3339
from services.domain.json_schema import CHECK_DEADLINE_MS
from services.infrastructure.postgres import Connection
from services.schema_validation.validator import SchemaValidator

_SELECT_SETTINGS = """
    SELECT c.channel IS NOT NULL AS channel_exists, coalesce(c.retired, false), coalesce(c.version, 0),
        s.system IS NOT NULL AS system_exists, coalesce(s.disabled, false), i.default_data, i.schema,
        s.verified_at IS NOT NULL AND b.channel IS NULL AND l.channel IS NULL AS callable_at_once
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY
        AS w(account, channel, system, code, place)
    LEFT JOIN invoker.channels c ON c.channel = w.channel AND c.account = w.account
    LEFT JOIN invoker.business_systems s ON s.channel = c.channel AND s.system = w.system
    LEFT JOIN invoker.intents i ON i.channel = c.channel AND i.system = w.system AND i.code = w.code
    LEFT JOIN invoker.circuits b ON b.channel = c.channel AND b.system = w.system
    LEFT JOIN invoker.queues l
        ON l.channel = c.channel AND l.system = w.system AND l.lane = 'first' AND l.wake_at <= now()
    ORDER BY w.place
"""


@dataclass(frozen=True, slots=True)
class CallRequest:
    """A request for a call. ``data`` None stands for the intent's default data."""

    account: str
    channel: str
    system: str
    code: str
    template: str | None
    data: dict[str, Any] | None
    settings_version: int | None = None
    test: bool = False
    """A test call is made although its system is disabled."""


class RequestSettings(NamedTuple):
    """The settings that a request refers to. Another account's channel looks like one that does not exist."""

    channel_exists: bool
    channel_retired: bool
    channel_version: int
    system_exists: bool
    system_disabled: bool
    default_data: str | None
    """JSON text, and so is the schema. None where the intent does not exist."""
    schema: str | None
    callable_at_once: bool
    """The system is verified, its circuit has no failure, and no delivery in its queue is due."""


@dataclass(frozen=True, slots=True)
class Servable:
    """``body`` is sent as these bytes at every attempt. ``parked``: the system is disabled."""

    body: bytes
    parked: bool


@dataclass(frozen=True, slots=True)
class NotServable:
    """What is missing with these settings: a stable name and a sentence.

    ``version_missing``: the settings version that the request names has not been applied yet.
    """

    reason: str
    message: str
    version_missing: bool = False


Validation = Servable | NotServable

NOT_VALIDATED = NotServable("NotValidated", "The request has not been validated yet.")
_BUDGET_S = 0.5
_TURN_S = 0.02


async def validate_all(
    requests: Sequence[CallRequest], settings: Sequence[RequestSettings], schemas: SchemaValidator
) -> list[Validation]:
    """Validates each request; many take long together, so other tasks run in between.

    After half a second of validating, the rest is `NOT_VALIDATED`, to be validated later.
    """
    turn_began, spent_s = time.monotonic(), 0.0
    timestamp = rfc3339(time.time_ns() // 1_000_000)
    validations: list[Validation] = []
    for request, found in zip(requests, settings, strict=True):
        ended = spent_s >= _BUDGET_S
        validations.append(NOT_VALIDATED if ended else await validate(request, found, timestamp, schemas))
        turn_s = time.monotonic() - turn_began
        if turn_s > _TURN_S:
            spent_s += turn_s
            await asyncio.sleep(0)
            turn_began = time.monotonic()
    return validations


async def load_settings(connection: Connection, requests: Sequence[CallRequest]) -> list[RequestSettings]:
    """The settings for each request; what several requests refer to is read once."""
    keys = [(request.account, request.channel, request.system, request.code) for request in requests]
    distinct = list(dict.fromkeys(keys))
    rows = await connection.fetch(_SELECT_SETTINGS, *(list(column) for column in zip(*distinct, strict=True)))
    settings = {key: RequestSettings._make(row) for key, row in zip(distinct, rows, strict=True)}
    return [settings[key] for key in keys]


async def validate(
    request: CallRequest, settings: RequestSettings, timestamp: str, schemas: SchemaValidator
) -> Validation:
    """``timestamp`` is that of the body."""
    missing = _missing(request, settings)
    if missing is None and request.data is not None and settings.schema is not None:
        missing = await _breaks_schema(request.code, request.data, settings.schema, schemas)
    if missing is not None:
        return missing
    fields = {
        "type": request.code,
        "timestamp": timestamp,
        "account": request.account,
        "channel": request.channel,
        "business_system": request.system,
        "template": request.template,
        "data": {} if request.data is None else request.data,
    }
    body = to_json(fields)
    if request.data is None and settings.default_data is not None:
        # The default data is inserted as the text that was checked when it was saved: parsing it again would cost more.
        body = body[: -len("{}}")] + settings.default_data.encode() + b"}"
    return Servable(body, parked=settings.system_disabled and not request.test)


def _missing(request: CallRequest, settings: RequestSettings) -> NotServable | None:
    if not settings.channel_exists:
        return NotServable("ChannelUnknown", f"The account has no channel {request.channel!r}.")
    if settings.channel_retired:
        return NotServable("ChannelIsRetired", f"Channel {request.channel!r} is retired.")
    version = request.settings_version or 0
    if settings.channel_version < version:
        message = f"Version {version} was asked for, but the channel is at version {settings.channel_version}."
        return NotServable("VersionYetToCome", message, version_missing=True)
    if not settings.system_exists:
        return NotServable("BusinessSystemUnknown", f"No business system {request.system!r} is open on this channel.")
    if request.code != TEST_CALL and settings.default_data is None:
        return NotServable("IntentUnknown", f"Business system {request.system!r} has no intent {request.code!r}.")
    return None


async def _breaks_schema(code: str, data: dict[str, Any], schema: str, schemas: SchemaValidator) -> NotServable | None:
    outcome, reason = await schemas.check(json.loads(schema), data)
    match outcome:
        case "valid":
            return None
        case "invalid-data":
            return NotServable("DataBreaksSchema", f"The data does not satisfy the schema of {code!r}: {reason}.")
        case "unusable-schema":  # it was checked when it was saved, with other data
            return NotServable("DataBreaksSchema", f"The schema of {code!r} cannot be used with the data: {reason}.")
        case "timed-out":
            message = (
                f"Checking the data against the schema of {code!r} took more than {CHECK_DEADLINE_MS} ms of processor "
                "time, or too much memory; simplify the schema, or shorten the data."
            )
            return NotServable("ValidationTimedOut", message)
        case _:
            assert_never(outcome)

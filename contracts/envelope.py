"""The CloudEvents 1.0 envelope (JSON, structured mode) that every record's value is."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from typing import Annotated, Any, Literal, TypeGuard

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import from_json, to_json

from .commands import EVENTS
from .ids import AccountId, ChannelId, CommandId
from .message import DEEPEST_JSON, EventData, moment_of

CONTENT_TYPE = ("content-type", b"application/cloudevents+json; charset=UTF-8")
"""The record header by which the CloudEvents Kafka binding tells structured mode."""

LONGEST_READABLE = 16 * 1024
"""A longer id, type, source, subject or account id is answered by nobody: an answer repeats all five."""

_BEYOND = f"'data' is nested more than {DEEPEST_JSON} levels deep, or holds a number of thousands of digits."

_LONGEST_STEP = 128
"""Whoever invents a field chooses the length of its name; an answer repeats no more of it."""

_NESTED = (dict, list)

GENESIS = "0" * 64
"""The ``previoushash`` of a channel's first event."""

ShortText = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
Readable = Annotated[str, StringConstraints(max_length=LONGEST_READABLE)]


def _rfc3339(text: str) -> str:
    moment_of(text)
    return text


class CommandEnvelope(BaseModel):
    """A command as it is published; ``data`` is checked by its ``type``. An attribute of null is one left out."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    specversion: Literal["1.0"]
    id: CommandId
    type: ShortText
    source: ShortText
    subject: ChannelId
    accountid: AccountId
    time: Annotated[str, AfterValidator(_rfc3339)] | None = None
    actor: Annotated[str, StringConstraints(min_length=1, max_length=255)] | None = None
    expectedversion: Annotated[int, Field(ge=0, lt=2**53)] | None = None
    dryrun: bool | None = False
    correlationid: Annotated[str, StringConstraints(min_length=1, max_length=255)] | None = None
    traceparent: Annotated[str, StringConstraints(min_length=1, max_length=255)] | None = None
    tracestate: Annotated[str, StringConstraints(max_length=1024)] | None = None
    datacontenttype: Literal["application/json"] | None = "application/json"
    dataschema: Annotated[str, StringConstraints(max_length=1024)] | None = None
    data: dict[str, Any] = {}


class EventEnvelope(BaseModel):
    """A settings event as subscribers read it. ``data`` is kept as it came; `body` gives it its type."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    specversion: str
    id: str
    type: str
    source: str
    subject: str
    time: str
    accountid: str
    actor: str | None = None
    commandsource: str | None = None
    commandtype: str | None = None
    sequence: int
    partitionsequence: int
    previoushash: str
    resource: str
    causationid: str
    correlationid: str
    traceparent: str | None = None
    data: dict[str, Any] = {}

    def body(self) -> EventData | None:
        """The data by its type; None where the type is newer than this reader."""
        kind = EVENTS.get(self.type)
        return None if kind is None else kind.model_validate(self.data)


class NotificationEnvelope(BaseModel):
    """What the invoker and the OTP router publish: an answer to a request, on a topic of its own."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    specversion: Literal["1.0"] = "1.0"
    id: str
    type: str
    source: str
    subject: str
    time: str
    accountid: str
    causationid: str
    correlationid: str
    traceparent: str | None = None
    datacontenttype: Literal["application/json"] = "application/json"
    data: dict[str, Any]


def content_digest(kind: str, data: dict[str, Any], *, dry_run: bool) -> bytes:
    """Hex SHA-256 of what counts as a command's content, an outcome's header ``digest``: the same id with another one
    is another command."""
    return sha256(to_json([kind, _sorted(data), dry_run])).hexdigest().encode()


def _sorted(value: Any) -> Any:
    """JSON with the keys of every object in order."""
    if isinstance(value, dict):
        return {key: _sorted(item) if isinstance(item, _NESTED) else item for key, item in sorted(value.items())}
    return [_sorted(item) if isinstance(item, _NESTED) else item for item in value]


class Unreadable(Exception):
    """The record has no readable envelope; the sentence says why. It belongs on the dead-letter topic."""


class Invalid(Exception):
    """The envelope can be read but breaks the contract. Holds what an answer needs, and the sentence."""

    def __init__(self, envelope: ReadableEnvelope, problem: str) -> None:
        super().__init__(problem)
        self.envelope = envelope
        self.problem = problem


class ReadableEnvelope(BaseModel):
    """The five strings without which nobody can be answered."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    id: Readable
    type: Readable
    source: Readable
    subject: Readable
    accountid: Readable


_validated: Callable[[bytes], CommandEnvelope] = CommandEnvelope.__pydantic_validator__.validate_json
"""As `model_validate_json`, without the method around it, which each command would pay for."""


def read_command(value: bytes | None, longest: int | None = None) -> CommandEnvelope:
    """The command in a record's value, of at most ``longest`` bytes.

    Raises `Unreadable` where it is no JSON object with the strings ``id``, ``type``, ``source``, ``subject`` and
    ``accountid``, and `Invalid` where it is one but breaks the contract otherwise.
    """
    if value is None:
        raise Unreadable("the record has no value; a command is a JSON object")
    if longest is not None and len(value) > longest:
        problem = f"The command is {len(value):,} bytes long; at most {longest:,} are allowed."
    else:
        try:
            return _validated(value)
        except ValidationError as error:
            problem = problem_of(error)
    try:
        parsed = from_json(value, allow_inf_nan=False)
    except ValueError as error:
        parsed, problem = _beyond_our_parser(value, error), _BEYOND
    if not _is_object(parsed):
        raise Unreadable("the value is JSON, but no object; a command is a CloudEvents object")
    try:
        readable = ReadableEnvelope.model_validate(parsed)
    except ValidationError as error:
        raise Unreadable(f"the envelope cannot be read: {problem_of(error)}") from None
    raise Invalid(readable, problem)


def _beyond_our_parser(value: bytes, problem: ValueError) -> object:
    """JSON that our parser does not take, so that it can be answered; raises `Unreadable` on anything else."""
    try:
        if "recursion limit" in str(problem) or "number out of range" in str(problem):
            return json.loads(value, parse_int=float)
    except (ValueError, RecursionError):
        pass
    raise Unreadable(f"the value is not JSON: {problem}") from None


def _is_object(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def problem_of(error: ValidationError, inside: str = "") -> str:
    """A pydantic error as one sentence that names each field, and repeats no input."""
    parts = []
    for detail in error.errors(include_url=False, include_input=False, include_context=False)[:5]:
        field = ".".join(str(step)[:_LONGEST_STEP] for step in (inside, *detail["loc"]) if step != "")
        match detail["type"]:
            case "missing":
                parts.append(f"{field!r} is missing")
            case "extra_forbidden":
                parts.append(f"{field!r} is not a known field")
            case "value_error":
                message = detail["msg"].removeprefix("Value error, ")
                parts.append(f"{field!r} is wrong: {message}" if field else message)
            case _:
                message = detail["msg"]
                parts.append(f"{field!r} is wrong: {message[:1].lower()}{message[1:]}" if field else message)
    return "; ".join(parts) + "."

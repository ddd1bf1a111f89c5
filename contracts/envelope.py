"""The CloudEvents 1.0 envelopes (JSON, structured mode) of commands, events and notifications."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from typing import Annotated, Any, Literal, TypeGuard

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import from_json, to_json

from .bounded_json import MAX_JSON_DEPTH
from .ids import AccountId, ChannelId, CommandId
from .json_values import unkeepable
from .media_type import is_json_media_type
from .message import EventData, parse_rfc3339
from .message_types import EVENTS
from .notices import NOTICES
from .pydantic_internals import json_validator
from .trace_context import is_traceparent

CONTENT_TYPE = ("content-type", b"application/cloudevents+json; charset=UTF-8")
"""The record header that marks structured mode in the CloudEvents Kafka binding."""

MAX_ATTRIBUTE_LENGTH = 16 * 1024
"""The most characters of an id, type, source, subject or account id: an outcome repeats all five."""

_BEYOND = f"'data' is nested more than {MAX_JSON_DEPTH} levels deep, or holds a number of thousands of digits."
_OTHER_LIMITS = ("recursion limit", "number out of range", "hex escape")
"""In our parser's errors on JSON that is well formed."""

_LONGEST_STEP = 128
"""The most characters that a rejection repeats of an unknown field's name."""

_NESTED = (dict, list)

GENESIS = "0" * 64
"""The ``previoushash`` of a channel's first event."""

ShortText = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
_TraceParent = Annotated[str, StringConstraints(min_length=1, max_length=255)]
_TraceState = Annotated[str, StringConstraints(max_length=1024)]
BoundedText = Annotated[str, StringConstraints(max_length=MAX_ATTRIBUTE_LENGTH)]


def _rfc3339(text: str) -> str:
    parse_rfc3339(text)
    return text


def _ignored_unless(possible: Callable[[str], bool]) -> BeforeValidator:
    """A trace header that cannot be one is left out: W3C Trace Context wants it ignored, not the command refused."""
    return BeforeValidator(lambda value: None if isinstance(value, str) and not possible(value) else value)


def _json_in_utf8(media_type: str) -> str:
    if not is_json_media_type(media_type):
        raise ValueError("it must be application/json; a charset, if given, must be utf-8")
    return media_type


Word = Annotated[str, StringConstraints(min_length=1, max_length=255)]


class Origin(BaseModel):
    """Who sent a command, and from where, beside its actor: what a gateway knows. Each may be missing.

    ``actorname`` is the actor's name for people to read, ``actorowner`` the person that the actor, an API key, belongs
    to, ``sourceaddress`` the client's IP address, ``useragent`` what the client says it is, ``requestid`` the id of the
    HTTP request.
    """

    model_config = ConfigDict(frozen=True)

    actorname: Word | None = None
    actorowner: Word | None = None
    sourceaddress: Word | None = None
    useragent: Word | None = None
    requestid: Word | None = None


class CommandEnvelope(Origin):
    """A command as it is published; ``data`` is validated by its ``type``. A null attribute counts as missing."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    specversion: Literal["1.0"]
    id: CommandId
    type: ShortText
    source: ShortText
    subject: ChannelId
    accountid: AccountId
    time: Annotated[str, AfterValidator(_rfc3339)] | None = None
    actor: Word | None = None
    expectedversion: Annotated[int, Field(ge=0, lt=2**53)] | None = None
    dryrun: bool | None = False
    correlationid: Word | None = None
    traceparent: Annotated[_TraceParent | None, _ignored_unless(is_traceparent)] = None
    tracestate: Annotated[_TraceState | None, _ignored_unless(lambda text: len(text) <= 1024)] = None
    datacontenttype: Annotated[str, StringConstraints(max_length=255), AfterValidator(_json_in_utf8)] | None = (
        "application/json"
    )
    dataschema: Annotated[str, StringConstraints(max_length=1024)] | None = None
    data: dict[str, Any] = {}


class EventEnvelope(Origin):
    """A settings event as subscribers read it. ``data`` is the raw data; `body` returns it as a model."""

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
        """The data as a model of its type; None for a type that is newer than this reader."""
        kind = EVENTS.get(self.type)
        return None if kind is None else kind.model_validate(self.data)


class NotificationEnvelope(BaseModel):
    """What the invoker and the message router publish: an answer to a request, on a topic of its own.

    ``data`` is the raw data; `body` returns it as a model.
    """

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

    def body(self) -> EventData | None:
        """The data as a model of its type; None for a type that is newer than this reader."""
        kind = NOTICES.get(self.type)
        return None if kind is None else kind.model_validate(self.data)


def content_digest(kind: str, data: dict[str, Any], *, dry_run: bool) -> bytes:
    """Hex SHA-256 of a command's content, the header ``digest`` of its outcome.

    The same id with another digest is another command.
    """
    return sha256(to_json([kind, _sorted(data), dry_run])).hexdigest().encode()


def _sorted(value: Any) -> Any:
    """JSON with the keys of every object in order."""
    if isinstance(value, dict):
        return {key: _sorted(item) if isinstance(item, _NESTED) else item for key, item in sorted(value.items())}
    return [_sorted(item) if isinstance(item, _NESTED) else item for item in value]


class UndecodableEnvelope(Exception):
    """The record has no decodable envelope. The message says why. The record goes to the dead-letter topic."""


class InvalidEnvelope(Exception):
    """The envelope can be decoded but breaks the contract. ``envelope`` has what a rejection repeats."""

    def __init__(self, envelope: EnvelopeIdentity, problem: str) -> None:
        super().__init__(problem)
        self.envelope = envelope
        self.problem = problem


class EnvelopeIdentity(BaseModel):
    """The five attributes that every outcome repeats."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    id: BoundedText
    type: BoundedText
    source: BoundedText
    subject: BoundedText
    accountid: BoundedText


_validated = json_validator(CommandEnvelope)


def read_command(value: bytes | None, longest: int | None = None) -> CommandEnvelope:
    """The command in a record's value, of at most ``longest`` bytes.

    Raises `UndecodableEnvelope` where the value is not a JSON object with the strings ``id``, ``type``, ``source``,
    ``subject`` and ``accountid``; `InvalidEnvelope` where it has these but breaks the contract otherwise.
    """
    if value is None:
        raise UndecodableEnvelope("the record has no value; a command is a JSON object")
    if longest is not None and len(value) > longest:
        problem = f"The command is {len(value):,} bytes long; at most {longest:,} are allowed."
    else:
        try:
            return _validated(value)
        except ValidationError as error:
            problem = validation_message(error)
    try:
        parsed = from_json(value, allow_inf_nan=False)
    except ValueError as error:
        parsed = _parse_beyond_limits(value, error)
        clause = unkeepable(parsed)
        problem = _BEYOND if clause is None else f"{clause}."
    if not _is_object(parsed):
        raise UndecodableEnvelope("the value is JSON, but not an object; a command is a CloudEvents object")
    try:
        identity = EnvelopeIdentity.model_validate(parsed)
    except ValidationError as error:
        raise UndecodableEnvelope(f"the envelope cannot be read: {validation_message(error)}") from None
    raise InvalidEnvelope(identity, problem)


def _parse_beyond_limits(value: bytes, problem: ValueError) -> object:
    """JSON that only Python's parser takes, so that it can be rejected. Raises `UndecodableEnvelope`."""
    try:
        if any(limit in str(problem) for limit in _OTHER_LIMITS):
            return json.loads(value, parse_int=float)
    except (ValueError, RecursionError):
        pass
    raise UndecodableEnvelope(f"the value is not JSON: {problem}") from None


def _is_object(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def validation_message(error: ValidationError, inside: str = "") -> str:
    """A pydantic error as one sentence that names each field, and repeats no values."""
    parts = []
    for detail in error.errors(include_url=False, include_input=False, include_context=False)[:5]:
        field = ".".join(str(step)[:_LONGEST_STEP] for step in (inside, *detail["loc"]) if step != "")
        match detail["type"]:
            case "missing":
                parts.append(f"{field!r} is missing")
            case "extra_forbidden":
                parts.append(f"{field!r} is not a known field")
            case "union_tag_invalid" | "union_tag_not_found":  # its message repeats the value
                parts.append(f"{field!r} is wrong: its 'type' is not one that can stand here")
            case "value_error":
                message = detail["msg"].removeprefix("Value error, ")
                parts.append(f"{field!r} is wrong: {message}" if field else message)
            case _:
                message = detail["msg"]
                parts.append(f"{field!r} is wrong: {message[:1].lower()}{message[1:]}" if field else message)
    return "; ".join(parts) + "."

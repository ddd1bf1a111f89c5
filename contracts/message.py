"""The base classes of all messages' data, and the types of their texts and times.

Commands are strict: they forbid unknown fields. Events are kept forever: readers ignore unknown fields, and fields are
only added.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, WithJsonSchema, model_validator

from .bounded_json import max_json_bytes

_EPOCH = datetime.fromtimestamp(0, UTC)
_MILLISECOND = timedelta(milliseconds=1)
_RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})", re.IGNORECASE
)
_CONTROL_BUT_LINES = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


class CommandData(BaseModel):
    """The ``data`` of a command; its class name is the command's ``type``."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", validate_by_alias=True, validate_by_name=True, serialize_by_alias=True
    )


class EditData(CommandData):
    """An edit: a missing field stays as it is, null clears it, except the fields in ``not_clearable``."""

    not_clearable: ClassVar[tuple[str, ...]] = ("name",)

    @model_validator(mode="after")
    def _clears_only_what_may_be_empty(self) -> Self:
        for field in self.not_clearable:
            if field in self.model_fields_set and getattr(self, field) is None:
                raise ValueError(f"{field!r} cannot be cleared; leave it out to keep it")
        return self


class EventData(BaseModel):
    """The ``data`` of an event; its class name is the event's ``type``, in the past tense."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", validate_by_alias=True, validate_by_name=True, serialize_by_alias=True
    )


def _prose(text: str) -> str:
    if _CONTROL_BUT_LINES.search(text):
        raise ValueError("it must not hold control characters other than tab and line ends")
    return text


Remarks = Annotated[str, StringConstraints(max_length=1024), AfterValidator(_prose)]


DEFAULT_DATA_LIMIT = 4 * 1024
SCHEMA_LIMIT = 16 * 1024

JsonObject = Annotated[dict[str, Any], max_json_bytes(DEFAULT_DATA_LIMIT)]
SchemaObject = Annotated[dict[str, Any], max_json_bytes(SCHEMA_LIMIT)]


Time = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
"""A time in an answer: RFC 3339 in UTC with milliseconds."""


@lru_cache(256)
def rfc3339(milliseconds: int) -> str:
    """Unix milliseconds as RFC 3339 in UTC with milliseconds, ``2026-11-22T08:00:00.000Z``."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def parse_rfc3339(text: str) -> datetime:
    """Parses an RFC 3339 time with an offset. Raises ValueError, whose message does not repeat the text."""
    try:
        moment = datetime.fromisoformat(text.upper()) if _RFC_3339.fullmatch(text) else None
    except ValueError:
        moment = None
    if moment is None:
        raise ValueError("it must be an RFC 3339 time with an offset, such as 2026-11-22T08:00:00Z")
    try:
        moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("it must be within the years 0001 to 9999 of UTC") from None
    return moment


def unix_milliseconds(text: str) -> int:
    """The Unix milliseconds of an RFC 3339 time with an offset, rounded down: never a later time.

    Raises ValueError on anything else.
    """
    return (parse_rfc3339(text) - _EPOCH) // _MILLISECOND

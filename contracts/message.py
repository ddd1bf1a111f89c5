"""What every message's data has in common, and the kinds of text that it holds.

Commands are strict: they forbid unknown fields. Events are for ever: readers ignore fields that they do not know, and
fields are only added.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, model_validator
from pydantic_core import to_json

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
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
    """An edit: a field left out stays, null clears it; what cannot be empty is named in ``kept``."""

    kept: ClassVar[tuple[str, ...]] = ("name",)

    @model_validator(mode="after")
    def _clears_only_what_may_be_empty(self) -> Self:
        for field in self.kept:
            if field in self.model_fields_set and getattr(self, field) is None:
                raise ValueError(f"{field!r} cannot be cleared; leave it out to keep it")
        return self


class EventData(BaseModel):
    """The ``data`` of an event; its class name is the event's ``type``, in the past tense."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", validate_by_alias=True, validate_by_name=True, serialize_by_alias=True
    )


def _one_line(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("it must be one line without control characters")
    if not text.strip():
        raise ValueError("it must not be blank")
    return text


def _prose(text: str) -> str:
    if _CONTROL_BUT_LINES.search(text):
        raise ValueError("it must not hold control characters other than tab and line ends")
    return text


Name = Annotated[str, StringConstraints(min_length=1, max_length=255), AfterValidator(_one_line)]
Remarks = Annotated[str, StringConstraints(max_length=1024), AfterValidator(_prose)]


def compact_json(value: object) -> str:
    """``value`` as JSON without spaces; raises ValueError on NaN and infinities, which JSON does not have."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


DEEPEST_JSON = 100
"""So many levels may JSON have that we keep: ours parses 200, and records hold it deeper than commands do."""


def _is_deeper(value: object, levels: int) -> bool:
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return below is not None and (levels == 0 or any(_is_deeper(one, levels - 1) for one in below))


def _is_surely_small(value: object, limit: int) -> bool:
    """Whether it is JSON far below the limit: a quick look, which tells nothing of what is not.

    Numbers may be written longer than pydantic writes them, but no three times as long.
    """
    try:
        written = to_json(value)
    except ValueError:
        return False
    return len(written) * 3 < limit and b"NaN" not in written and b"Infinity" not in written


def at_most(limit: int) -> AfterValidator:
    def check(value: dict[str, Any]) -> dict[str, Any]:
        if _is_deeper(value, DEEPEST_JSON):
            raise ValueError(f"it is nested more than {DEEPEST_JSON} levels deep")
        if _is_surely_small(value, limit):
            return value
        try:
            size = len(compact_json(value).encode())
        except ValueError:
            raise ValueError("it must be JSON that has no NaN, no infinities and no lone surrogates") from None
        if size > limit:
            raise ValueError(f"it is {size:,} bytes as compact JSON; at most {limit:,} are allowed")
        return value

    return AfterValidator(check)


DEFAULT_DATA_LIMIT = 4 * 1024
SCHEMA_LIMIT = 16 * 1024

JsonObject = Annotated[dict[str, Any], at_most(DEFAULT_DATA_LIMIT)]
SchemaObject = Annotated[dict[str, Any], at_most(SCHEMA_LIMIT)]


def rfc3339(milliseconds: int) -> str:
    """Unix milliseconds as RFC 3339 in UTC with milliseconds, ``2026-11-22T08:00:00.000Z``."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def moment_of(text: str) -> datetime:
    """The moment of an RFC 3339 time with an offset; raises ValueError, which repeats no input, on anything else."""
    try:
        moment = datetime.fromisoformat(text.upper()) if _RFC_3339.fullmatch(text) else None
    except ValueError:
        moment = None
    if moment is None:
        raise ValueError("it must be an RFC 3339 time with an offset, such as 2026-11-22T08:00:00Z")
    return moment


def milliseconds_of(text: str) -> int:
    """The Unix milliseconds of an RFC 3339 time with an offset; raises ValueError on anything else."""
    return round(moment_of(text).timestamp() * 1000)

"""Events as the read models decode them.

The decider validated them before it wrote them, so only the envelope's fields that a fold needs are decoded: that costs
a quarter of validating an `EventEnvelope`. The data stays bytes until it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NotRequired, TypedDict

import msgspec

from contracts.message_types import EVENTS, Event
from contracts.pydantic_internals import json_validator
from contracts.section import SectionEvent, SectionSettings

_VALIDATE: dict[str, Any] = {name: json_validator(kind) for name, kind in EVENTS.items()}

_SECTION_EVENTS = {name: kind for name, kind in EVENTS.items() if issubclass(kind, SectionEvent)}
SECTION_EVENTS = frozenset(_SECTION_EVENTS)
"""Types of events that carry their whole section."""

_FIXED_SECTIONS = {
    name: kind().section().model_dump(mode="json") for name, kind in _SECTION_EVENTS.items() if not kind.model_fields
}
"""Type -> section, for events without data, which need no decoding."""

_JSON_TYPES: dict[Any, Any] = {bool: bool, int: int, str: str, tuple[str, ...]: list[str]}
"""Type of a field of a section -> the type that it is decoded as."""


def _has_plain_fields(kind: type[SectionEvent]) -> bool:
    """Whether the section is the event's fields of the same names, each of a type that is JSON already."""
    fields = kind.settings.model_fields.values()
    return kind.section is SectionEvent.section and all(field.annotation in _JSON_TYPES for field in fields)


def _section_decoder(settings: type[SectionSettings]) -> Callable[[msgspec.Raw], dict[str, Any]]:
    fields = {name: NotRequired[_JSON_TYPES[field.annotation]] for name, field in settings.model_fields.items()}
    return msgspec.json.Decoder(TypedDict(settings.__name__, fields)).decode  # type: ignore[operator]


_SECTION_DECODERS = {
    name: (kind.settings().model_dump(mode="json"), _section_decoder(kind.settings))
    for name, kind in _SECTION_EVENTS.items()
    if name not in _FIXED_SECTIONS and _has_plain_fields(kind)
}
"""Type -> defaults and decoder of the section. A pydantic model of each event would cost a quarter of the fold."""

_fields_of = msgspec.json.Decoder().decode

NotAnEvent = msgspec.DecodeError
"""The record is not an event. The message repeats nothing of its content."""


class StoredEvent(msgspec.Struct, frozen=True, gc=False):
    """The fields of an `EventEnvelope` that a fold needs."""

    type: str
    subject: str
    time: str
    accountid: str
    sequence: int
    partitionsequence: int
    resource: str
    data: msgspec.Raw = msgspec.Raw(b"{}")

    def about(self) -> tuple[str | None, str | None]:
        """The business system and the intent code in the resource; None for each that it does not name."""
        match self.resource.split("/"):
            case ["business-systems", system, "intents", code]:
                return system, code
            case ["business-systems", system, *_]:
                return system, None
            case _:
                return None, None

    def body(self) -> Event | None:
        """The data as a model of the event's type; None where the type is newer than this reader."""
        validate = _VALIDATE.get(self.type)
        return None if validate is None else validate(bytes(self.data))

    def section(self) -> dict[str, Any] | None:
        """The fields of the section after the event, as JSON; None where the event is newer than this reader.

        The result may be shared: not to be changed.
        """
        if (fixed := _FIXED_SECTIONS.get(self.type)) is not None:
            return fixed
        if (decoder := _SECTION_DECODERS.get(self.type)) is not None:
            defaults, decode = decoder
            return defaults | decode(self.data)
        body = self.body()
        return body.section().model_dump(mode="json") if isinstance(body, SectionEvent) else None

    def fields(self) -> dict[str, Any]:
        """The data as a dict, without validation."""
        found: dict[str, Any] = _fields_of(self.data)
        return found


class TracedEvent(StoredEvent, frozen=True, gc=False, kw_only=True):
    """A `StoredEvent` with the command that caused it and its actor."""

    id: str
    causationid: str
    correlationid: str
    actor: str | None = None
    commandsource: str | None = None
    commandtype: str | None = None


read_event = msgspec.json.Decoder(StoredEvent).decode
"""The event in a record's value. Raises `NotAnEvent`."""

read_traced_event = msgspec.json.Decoder(TracedEvent).decode
"""`read_event` for `TracedEvent`."""

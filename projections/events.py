"""Events as the read models read them: a quarter of what it costs to check all that an envelope says, because they
were checked before they were written. The data stays the text that it is until somebody asks."""

from __future__ import annotations

from typing import Any

import msgspec

from contracts.commands import EVENTS, Event

_VALIDATE = {name: kind.__pydantic_validator__.validate_json for name, kind in EVENTS.items()}
"""As `model_validate_json`, without the method around it, which each event would pay for."""

_fields_of = msgspec.json.Decoder().decode

NotAnEvent = msgspec.DecodeError
"""The record is no event; the sentence repeats nothing of it."""


class StoredEvent(msgspec.Struct, frozen=True, gc=False):
    """What happened, as an `EventEnvelope` says it: what folding it needs."""

    type: str
    subject: str
    time: str
    accountid: str
    sequence: int
    partitionsequence: int
    resource: str
    data: msgspec.Raw = msgspec.Raw(b"{}")

    def about(self) -> tuple[str | None, str | None]:
        """The business system and the intent's code, as far as its resource names them."""
        match self.resource.split("/"):
            case ["business-systems", system, "intents", code]:
                return system, code
            case ["business-systems", system, *_]:
                return system, None
            case _:
                return None, None

    def body(self) -> Event | None:
        """The data by its type; None where the type is newer than this reader."""
        validate = _VALIDATE.get(self.type)
        return None if validate is None else validate(bytes(self.data))

    def fields(self) -> dict[str, Any]:
        """The data, whatever the type."""
        found: dict[str, Any] = _fields_of(self.data)
        return found


class TracedEvent(StoredEvent, frozen=True, gc=False, kw_only=True):
    """And who asked for it, how."""

    id: str
    causationid: str
    correlationid: str
    actor: str | None = None
    commandsource: str | None = None
    commandtype: str | None = None


read_event = msgspec.json.Decoder(StoredEvent).decode
"""The event in a record's value. Raises `NotAnEvent`."""

read_traced_event = msgspec.json.Decoder(TracedEvent).decode
"""The same with who asked for it."""

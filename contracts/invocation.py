"""Calling an intent of a business system: the requests and their results."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from .bounded_json import max_json_bytes
from .ids import IntentCode, KeyId, SystemId, TemplateId
from .message import CommandData, EventData

INVOCATION_DATA_LIMIT = 255 * 1024
"""In bytes. The body of a call, with its other fields, is then at most 256 KiB."""
TEST_CALL = "switchboard.test"
"""The ``type`` in the body of a test call. No intent can have it as its code."""


class InvokeIntent(CommandData):
    """Calls an intent. Without ``data``: its default data. ``settings_version``: wait until that version is known."""

    system: SystemId
    code: IntentCode
    data: Annotated[dict[str, Any], max_json_bytes(INVOCATION_DATA_LIMIT)] | None = None
    template: TemplateId | None = None
    ttl_seconds: Annotated[int, Field(ge=1, le=7 * 24 * 60 * 60)] | None = None
    settings_version: Annotated[int, Field(ge=1)] | None = None


class MakeTestCall(CommandData):
    """Calls a business system exactly as an invocation does, once, disabled or not.

    ``key_id``: signed with that signature alone, to prove that the receiver knows it.
    """

    system: SystemId
    key_id: KeyId | None = None
    settings_version: Annotated[int, Field(ge=1)] | None = None


class TriggerIntent(CommandData):
    """Calls an intent once, as a test: not at its business system, but at whoever listens for calls of the channel."""

    system: SystemId
    code: IntentCode
    data: Annotated[dict[str, Any], max_json_bytes(INVOCATION_DATA_LIMIT)] | None = None
    settings_version: Annotated[int, Field(ge=1)] | None = None


DeliveryState = Literal["waiting", "due", "parked", "delivered", "dead", "refused"]
"""Waiting for settings that are not known yet; due; parked while its system is disabled; and how it ended."""

InvocationStatus = Literal["delivered", "dead", "refused"]


class IntentInvoked(EventData):
    """The business system answered 2xx. ``result`` is its JSON answer, None where it gave none.

    ``test``: it was called as a test; after `TriggerIntent` the answer is that of a developer's own receiver.
    """

    system: str
    code: str
    delivery: str
    status: InvocationStatus = "delivered"
    attempts: int
    test: bool = False
    key_id: str | None = None
    result: Any = None


class InvocationFailed(EventData):
    """It was given up, or refused before any call; ``reason`` is a stable name, ``message`` a sentence.

    ``delivery`` is None where the request was refused before it became one.
    """

    system: str | None = None
    code: str | None = None
    delivery: str | None = None
    status: InvocationStatus
    attempts: int = 0
    test: bool = False
    key_id: str | None = None
    reason: str
    message: str

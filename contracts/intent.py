"""An intent: a triggering event of a business system that a message template's button can call, by its code."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from .ids import IntentCode, SystemId, TemplateId
from .message import CommandData, EditData, EventData, JsonObject, SchemaObject
from .names import Name
from .resources import IntentMessage


class AddIntent(IntentMessage, CommandData):
    """Adds an intent. ``schema`` is a JSON Schema (2020-12) that the default data must satisfy."""

    system: SystemId
    code: IntentCode
    name: Name
    default_data: JsonObject
    json_schema: SchemaObject | None = Field(default=None, alias="schema")


class EditIntent(IntentMessage, EditData):
    """Changes the given fields; null removes the schema, and empties the default data."""

    system: SystemId
    code: IntentCode
    name: Name | None = None
    default_data: JsonObject | None = None
    json_schema: SchemaObject | None = Field(default=None, alias="schema")
    force: bool = False


class DeleteIntent(IntentMessage, CommandData):
    """Deletes an intent; refused while templates refer to it, unless forced."""

    system: SystemId
    code: IntentCode
    force: bool = False


class ReferToIntent(IntentMessage, CommandData):
    """A message template starts using the intent."""

    system: SystemId
    code: IntentCode
    template: TemplateId


class ReleaseIntent(IntentMessage, CommandData):
    """A message template stops using the intent."""

    system: SystemId
    code: IntentCode
    template: TemplateId


class IntentAdded(IntentMessage, EventData):
    """An intent was added."""

    system: str
    code: str
    name: str
    default_data: dict[str, Any]
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")


class IntentEdited(IntentMessage, EventData):
    """Only what changed."""

    system: str
    code: str
    name: str | None = None
    default_data: dict[str, Any] | None = None
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")


class IntentDeleted(IntentMessage, EventData):
    """An intent was deleted."""

    system: str
    code: str


class IntentReferredTo(IntentMessage, EventData):
    """A message template uses the intent."""

    system: str
    code: str
    template: str


class IntentReleased(IntentMessage, EventData):
    """A message template does not use the intent any more."""

    system: str
    code: str
    template: str

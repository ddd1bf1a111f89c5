"""An intent: a triggering event of a business system that a message template's button can call, by its code."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from .ids import IntentCode, SystemId, TemplateId
from .message import CommandData, EditData, EventData, JsonObject, Name, SchemaObject


class AddIntent(CommandData):
    """``schema`` is a JSON Schema (2020-12) that the default data must satisfy."""

    system: SystemId
    code: IntentCode
    name: Name
    default_data: JsonObject
    json_schema: SchemaObject | None = Field(default=None, alias="schema")


class EditIntent(EditData):
    """Changes what is given; null clears the schema, and empties the default data."""

    system: SystemId
    code: IntentCode
    name: Name | None = None
    default_data: JsonObject | None = None
    json_schema: SchemaObject | None = Field(default=None, alias="schema")
    force: bool = False


class DeleteIntent(CommandData):
    """Refused while templates refer to it, unless forced."""

    system: SystemId
    code: IntentCode
    force: bool = False


class ReferToIntent(CommandData):
    """A message template begins to use the intent."""

    system: SystemId
    code: IntentCode
    template: TemplateId


class ReleaseIntent(CommandData):
    """A message template ends to use the intent."""

    system: SystemId
    code: IntentCode
    template: TemplateId


class IntentAdded(EventData):
    system: str
    code: str
    name: str
    default_data: dict[str, Any]
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")


class IntentEdited(EventData):
    """Only what changed."""

    system: str
    code: str
    name: str | None = None
    default_data: dict[str, Any] | None = None
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")


class IntentDeleted(EventData):
    system: str
    code: str


class IntentReferredTo(EventData):
    system: str
    code: str
    template: str


class IntentReleased(EventData):
    system: str
    code: str
    template: str

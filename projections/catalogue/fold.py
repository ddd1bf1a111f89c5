"""Folding events into the intent catalogue: the intents of all channels, with the templates that refer to them.

For the designers of templates. A batch is folded in memory and written with one statement per table.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from contracts.business_system import (
    BusinessSystemDeleted,
    BusinessSystemDisabled,
    BusinessSystemEdited,
    BusinessSystemEnabled,
    BusinessSystemOpened,
)
from contracts.channel import ChannelRetired
from contracts.intent import IntentAdded, IntentDeleted, IntentEdited, IntentReferredTo, IntentReleased
from contracts.message_types import EVENTS
from projections.events import StoredEvent, read_event
from projections.sql import SqlConnection, arrays, statements, upsert

_SQL = statements(Path(__file__).with_suffix(".sql"))
_SYSTEMS = {"channel": "text", "system": "text", "name": "text", "disabled": "boolean"}
_INTENTS = {
    "account": "text",
    "channel": "text",
    "system": "text",
    "code": "text",
    "name": "text",
    "default_data": "json",
    "json_schema": "json",
    "templates": "text[]",
    "version": "bigint",
}
_UPSERT_SYSTEMS = upsert("systems", _SYSTEMS, ("channel", "system"))
_UPSERT_INTENTS = upsert("intents", _INTENTS, ("channel", "system", "code"))
_BELOW_SYSTEMS, _RETIRED = b"business-systems/", b"ChannelRetired"

Row = dict[str, Any]


async def apply(connection: SqlConnection, _: int, records: Sequence[Any]) -> None:
    """Folds the records of one partition of the events into the tables."""
    events = [read_event(record.value) for record in records if _may_concern_intents(record.value)]
    if not events:
        return
    batch = _Batch()
    await batch.load(connection, events)
    for event in events:
        batch.fold(event)
    await batch.write(connection)


def _may_concern_intents(value: bytes) -> bool:
    """False for most events, which are then not decoded."""
    return _BELOW_SYSTEMS in value or _RETIRED in value


class _Batch:
    """The rows that a batch touches; None stands for a missing row."""

    def __init__(self) -> None:
        self.systems: dict[tuple[str, str], Row | None] = {}
        self.intents: dict[tuple[str, str, str], Row | None] = {}
        self.emptied_systems: set[tuple[str, str]] = set()
        self.emptied_channels: set[str] = set()

    async def load(self, connection: SqlConnection, events: Sequence[StoredEvent]) -> None:
        about = [(event.subject, *event.about()) for event in events if event.type in EVENTS]
        self.systems = {(channel, system): None for channel, system, _ in about if system is not None}
        self.intents = {
            (channel, system, code): None for channel, system, code in about if system is not None and code is not None
        }
        if self.systems:
            for row in await connection.fetch(_SQL["systems"], *map(list, zip(*self.systems, strict=True))):
                self.systems[row["channel"], row["system"]] = dict(row)
        if self.intents:
            for row in await connection.fetch(_SQL["intents"], *map(list, zip(*self.intents, strict=True))):
                documents = {name: row[name] and json.loads(row[name]) for name in ("default_data", "json_schema")}
                self.intents[row["channel"], row["system"], row["code"]] = dict(row) | documents

    def fold(self, envelope: StoredEvent) -> None:
        channel, event = envelope.subject, envelope.body()
        match event:
            case ChannelRetired():
                self.emptied_channels.add(channel)
                for system in [key for key in self.systems if key[0] == channel]:
                    self._empty(system)
            case BusinessSystemOpened():
                row = {"channel": channel, "system": event.system, "name": event.name, "disabled": False}
                self.systems[channel, event.system] = row
            case BusinessSystemDeleted():
                self._empty((channel, event.system))
            case BusinessSystemEdited() | BusinessSystemDisabled() | BusinessSystemEnabled():
                self._change_system(self.systems[channel, event.system], event)
            case IntentAdded():
                self.intents[channel, event.system, event.code] = {
                    "account": envelope.accountid,
                    "channel": channel,
                    "system": event.system,
                    "code": event.code,
                    "name": event.name,
                    "default_data": event.default_data,
                    "json_schema": event.json_schema,
                    "templates": [],
                    "version": envelope.sequence,
                }
            case IntentDeleted():
                self.intents[channel, event.system, event.code] = None
            case IntentEdited() | IntentReferredTo() | IntentReleased():
                intent = self.intents[channel, event.system, event.code]
                if intent is not None:
                    _change_intent(intent, event)
                    intent["version"] = envelope.sequence
            case _:
                pass  # other events change no intent

    def _change_system(
        self, row: Row | None, event: BusinessSystemEdited | BusinessSystemDisabled | BusinessSystemEnabled
    ) -> None:
        if row is None:
            return
        if isinstance(event, BusinessSystemEdited):
            row["name"] = event.name or row["name"]
        else:
            row["disabled"] = isinstance(event, BusinessSystemDisabled)

    def _empty(self, key: tuple[str, str]) -> None:
        self.systems[key] = None
        self.emptied_systems.add(key)
        for intent in self.intents:
            if intent[:2] == key:
                self.intents[intent] = None

    async def write(self, connection: SqlConnection) -> None:
        """Deletes first: what is deleted and added again in one batch starts empty."""
        if self.emptied_channels:
            await connection.execute(_SQL["forget_channels"], list(self.emptied_channels))
        if self.emptied_systems:
            await connection.execute(_SQL["forget_systems"], *map(list, zip(*self.emptied_systems, strict=True)))
        gone = [key for key, row in self.intents.items() if row is None and key[:2] not in self.emptied_systems]
        if gone:
            await connection.execute(_SQL["forget_intents"], *map(list, zip(*gone, strict=True)))
        for statement, columns, rows in (
            (_UPSERT_SYSTEMS, _SYSTEMS, self.systems.values()),
            (_UPSERT_INTENTS, _INTENTS, self.intents.values()),
        ):
            if there := [row for row in rows if row is not None]:
                await connection.execute(statement, *arrays(there, columns))


def _change_intent(intent: Row, event: IntentEdited | IntentReferredTo | IntentReleased) -> None:
    match event:
        case IntentEdited():
            intent.update(event.model_dump(exclude_unset=True, by_alias=False, exclude={"system", "code"}))
        case IntentReferredTo():
            intent["templates"] = sorted({*intent["templates"], event.template})
        case IntentReleased():
            intent["templates"] = [template for template in intent["templates"] if template != event.template]

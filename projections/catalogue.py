"""The intent catalogue, for those who design templates: by account, channel and code, with the templates that refer to
each. Set-based, as `projections.settings` is; it holds nothing that a designer has no use for."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
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
from contracts.commands import EVENTS
from contracts.intent import IntentAdded, IntentDeleted, IntentEdited, IntentReferredTo, IntentReleased
from projections.events import StoredEvent, read_event
from projections.settings import Connection
from projections.sql import arrays, statements, upsert

NAME = "switchboard.projector-catalogue"

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
_KEEP_SYSTEMS = upsert("catalogue.systems", _SYSTEMS, ("channel", "system"))
_KEEP_INTENTS = upsert("catalogue.intents", _INTENTS, ("channel", "system", "code"))
_BELOW_SYSTEMS, _RETIRED = b"business-systems/", b"ChannelRetired"

Row = dict[str, Any]


async def apply(connection: Connection, _: int, records: Sequence[Any]) -> None:
    """Records of one partition of the events."""
    events = [read_event(record.value) for record in records if _concerns(record.value)]
    if not events:
        return
    batch = _Batch()
    await batch.load(connection, events)
    for event in events:
        batch.fold(event)
    await batch.write(connection)


def _concerns(value: bytes) -> bool:
    """Whether the event may: most that happens to a channel concerns no intent, and need not be parsed."""
    return _BELOW_SYSTEMS in value or _RETIRED in value


class _Batch:
    """The rows that a batch touches; None is a row that is not there."""

    def __init__(self) -> None:
        self.systems: dict[tuple[str, str], Row | None] = {}
        self.intents: dict[tuple[str, str, str], Row | None] = {}
        self.emptied_systems: set[tuple[str, str]] = set()
        self.emptied_channels: set[str] = set()

    async def load(self, connection: Connection, events: Sequence[StoredEvent]) -> None:
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
                pass  # whatever else happens concerns no intent

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

    async def write(self, connection: Connection) -> None:
        """Deletes first: what was deleted and added again in one batch starts empty."""
        if self.emptied_channels:
            await connection.execute(_SQL["forget_channels"], list(self.emptied_channels))
        if self.emptied_systems:
            await connection.execute(_SQL["forget_systems"], *map(list, zip(*self.emptied_systems, strict=True)))
        gone = [key for key, row in self.intents.items() if row is None and key[:2] not in self.emptied_systems]
        if gone:
            await connection.execute(_SQL["forget_intents"], *map(list, zip(*gone, strict=True)))
        for statement, columns, rows in (
            (_KEEP_SYSTEMS, _SYSTEMS, self.systems.values()),
            (_KEEP_INTENTS, _INTENTS, self.intents.values()),
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


def all_systems(connection: Any) -> AsyncIterator[Any]:
    """Every system's row, by channel and id; the connection must be in a transaction."""
    rows: AsyncIterator[Any] = aiter(connection.cursor(_SQL["all_systems"], prefetch=1_000))
    return rows


def all_intents(connection: Any) -> AsyncIterator[Any]:
    """Every intent's row, by channel, system and code; the connection must be in a transaction."""
    rows: AsyncIterator[Any] = aiter(connection.cursor(_SQL["all_intents"], prefetch=1_000))
    return rows


async def find(
    connection: Connection,
    account: str | None,
    *,
    channel: str | None = None,
    code: str | None = None,
    template: str | None = None,
    after: tuple[str, str, str] = ("", "", ""),
    limit: int = 100,
) -> list[Row]:
    """Intents by channel, system and code, those behind ``after``; of all accounts where ``account`` is None."""
    rows = await connection.fetch(_SQL["find"], account, channel, code, template, *after, limit)
    return [
        {
            "account": row["account"],
            "channel": row["channel"],
            "business_system": row["system"],
            "business_system_name": row["system_name"],
            "disabled": row["disabled"],
            "code": row["code"],
            "name": row["name"],
            "default_data": json.loads(row["default_data"]),
            "schema": None if row["json_schema"] is None else json.loads(row["json_schema"]),
            "templates": list(row["templates"]),
            "version": row["version"],
        }
        for row in rows
    ]

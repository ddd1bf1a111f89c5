"""Folding events into the rows of the settings read model, in memory.

One query per table loads the business systems and intents that a batch touches. Rows of channels are not loaded: an
event replaces the columns, or the section, that it carries. The tables are those of the schema that the search path
names.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, assert_never

from contracts.business_system import (
    BusinessSystemDeleted,
    BusinessSystemDisabled,
    BusinessSystemEdited,
    BusinessSystemEnabled,
    BusinessSystemOpened,
)
from contracts.channel import ChannelEdited, ChannelRegistered, ChannelRetired
from contracts.intent import IntentAdded, IntentDeleted, IntentEdited, IntentReferredTo, IntentReleased
from contracts.message_types import EVENTS, Event
from contracts.proposed_change import ChangeApplied, ChangeApproved, ChangeDeclined, ChangeProposed, ChangeVoided
from contracts.section import SectionEvent
from contracts.signature import SignatureRefreshed, SignatureRevealed, SignatureRevoked
from projections.events import SECTION_EVENTS, StoredEvent
from projections.settings.rows import (
    CHANNELS,
    ChannelChange,
    IntentKey,
    IntentRow,
    SystemKey,
    SystemRow,
    apply_to_intent,
    apply_to_system,
    new_system,
)
from projections.sql import SqlConnection, statements

_SQL = statements(Path(__file__).with_suffix(".sql"))


class SequenceGap(Exception):
    """An event is not the next one of its channel."""


class Fold:
    """The rows that events of one partition touch, until they are written. None stands for a missing row."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.registered: set[str] = set()
        """Channels registered in this fold: the tables have no rows of them yet."""
        self.channels: dict[str, ChannelChange] = {}
        self.systems: dict[SystemKey, SystemRow | None] = {}
        self.intents: dict[IntentKey, IntentRow | None] = {}
        self.deleted_systems: set[SystemKey] = set()
        self.retired_channels: set[str] = set()

    def __len__(self) -> int:
        return len(self.channels) + len(self.systems) + len(self.intents)

    async def add(self, connection: SqlConnection, events: Sequence[StoredEvent]) -> None:
        """Folds the events, after loading the business systems and intents of theirs that are not loaded yet.

        Raises `SequenceGap`.
        """
        self.registered.update([event.subject for event in events if event.sequence == 1])
        await self._load(connection, events)
        for event in events:
            self.fold(event)

    async def _load(self, connection: SqlConnection, events: Sequence[StoredEvent]) -> None:
        systems, intents = self._to_load(events)
        self.systems |= dict.fromkeys(systems)
        if systems:
            for row in await connection.fetch(_SQL["systems"], *map(list, zip(*systems, strict=True))):
                found = SystemRow(**row)
                found.signatures = json.loads(row["signatures"])
                self.systems[found.channel, found.system] = found
        self.intents |= dict.fromkeys(intents)
        if intents:
            for row in await connection.fetch(_SQL["intents"], *map(list, zip(*intents, strict=True))):
                intent = IntentRow(**row)
                intent.default_data = json.loads(row["default_data"])
                intent.json_schema = None if row["json_schema"] is None else json.loads(row["json_schema"])
                self.intents[intent.channel, intent.system, intent.code] = intent

    def _to_load(self, events: Sequence[StoredEvent]) -> tuple[set[SystemKey], set[IntentKey]]:
        """The keys that the events name, except rows loaded already and rows that cannot be in the tables."""
        systems: set[SystemKey] = set()
        intents: set[IntentKey] = set()
        for event in events:
            channel = event.subject
            if channel in self.registered or channel in self.retired_channels or event.type not in EVENTS:
                continue
            system, code = event.about()
            if system is not None:
                systems.add((channel, system))
                if code is not None and (channel, system) not in self.deleted_systems:
                    intents.add((channel, system, code))
        return systems - self.systems.keys(), intents - self.intents.keys()

    def fold(self, event: StoredEvent) -> None:
        version = event.sequence
        if (channel := self.channels.get(event.subject)) is None:
            if version == 1:
                self.channels[event.subject] = _new_channel(event)
                return
            channel = self.channels[event.subject] = ChannelChange(version - 1, {}, expected_version=version - 1)
        if version != channel.version + 1:
            raise SequenceGap(f"event {version} of {event.subject!r} came after version {channel.version}")
        channel.version = version
        if event.type in SECTION_EVENTS:
            channel.last_full_event[event.resource] = event
        elif (body := event.body()) is not None:
            self._fold(channel.columns, body, event)

    def _fold(self, columns: dict[str, Any], event: Event, envelope: StoredEvent) -> None:  # noqa: C901 -- a closed match
        channel, version = envelope.subject, envelope.sequence
        match event:
            case ChannelRegistered():
                raise SequenceGap(f"{channel!r} was registered twice")
            case ChannelEdited():
                columns |= {name: getattr(event, name) for name in event.model_fields_set if name in CHANNELS}
                columns["channel_changed"] = version
            case ChannelRetired():
                columns["retired"], columns["channel_changed"] = True, version
                self._retire_channel(channel)
            case SectionEvent():
                pass  # `apply_deferred` writes the last one of each section
            case BusinessSystemOpened():
                self.systems[channel, event.system] = new_system(channel, event, version)
            case BusinessSystemDeleted():
                self._delete_system((channel, event.system))
                columns["closed_changed"] = version
            case IntentAdded():
                self._touch_intents(channel, event.system, version)
                self.intents[channel, event.system, event.code] = IntentRow(
                    channel,
                    event.system,
                    event.code,
                    event.name,
                    event.default_data,
                    event.json_schema,
                    changed=version,
                )
            case IntentDeleted():
                self._touch_intents(channel, event.system, version)
                self.intents[channel, event.system, event.code] = None
            case IntentEdited() | IntentReferredTo() | IntentReleased():
                self._touch_intents(channel, event.system, version)
                if (intent := self.intents.get((channel, event.system, event.code))) is not None:
                    apply_to_intent(intent, event, version)
            case (
                BusinessSystemEdited()
                | BusinessSystemDisabled()
                | BusinessSystemEnabled()
                | SignatureRefreshed()
                | SignatureRevealed()
                | SignatureRevoked()
            ):
                system = self.systems.get((channel, event.system))
                if system is not None:
                    apply_to_system(system, event, version, envelope.time)
                else:  # a signature that is drafted for a system yet to be opened
                    columns["closed_changed"] = version
            case ChangeProposed() | ChangeApproved() | ChangeDeclined() | ChangeVoided() | ChangeApplied():
                pass  # the history has them
            case _:
                assert_never(event)

    def apply_deferred(self) -> None:
        """Applies the events that `fold` put off. To be called before the rows are written."""
        for channel in self.channels.values():
            for resource, event in channel.last_full_event.items():
                sections = channel.columns.setdefault("sections", {})
                sections[resource] = {"settings": event.section(), "changed": event.sequence}
            channel.last_full_event.clear()

    def _retire_channel(self, channel: str) -> None:
        self.retired_channels.add(channel)
        for system in self.systems.values():
            if system is not None and system.channel == channel:
                system.signatures = []

    def _touch_intents(self, channel: str, system: str, version: int) -> None:
        if (row := self.systems.get((channel, system))) is not None:
            row.intents_changed = version

    def _delete_system(self, key: SystemKey) -> None:
        self.systems[key] = None
        self.deleted_systems.add(key)
        for intent in self.intents:
            if intent[:2] == key:
                self.intents[intent] = None


def _new_channel(event: StoredEvent) -> ChannelChange:
    body = event.body()
    if not isinstance(body, ChannelRegistered):
        raise SequenceGap(f"{event.subject!r} begins with {event.type}")
    columns: dict[str, Any] = {
        "channel": event.subject,
        "account": event.accountid,
        "channel_type": body.channel_type,
        "name": body.name,
        "provider": body.provider,
        "home_country": body.home_country,
        "international_rates_from": body.international_rates_from,
        "retired": False,
        "sections": {},
        "channel_changed": event.sequence,
        "closed_changed": 0,
    }
    return ChannelChange(event.sequence, columns, expected_version=None)

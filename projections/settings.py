"""The read model of settings: folds a batch of events, and answers with `ChannelSettings`.

Set-based: one query loads the rows that a batch touches, the events are folded in memory, one statement a table writes
what changed. It runs inside the caller's transaction, on whatever schema the search path names.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, assert_never

from contracts.business_system import (
    BusinessSystemDeleted,
    BusinessSystemDisabled,
    BusinessSystemEdited,
    BusinessSystemEnabled,
    BusinessSystemOpened,
)
from contracts.channel import ChannelEdited, ChannelRegistered, ChannelRetired
from contracts.commands import EVENTS, Event
from contracts.envelope import EventEnvelope
from contracts.intent import IntentAdded, IntentDeleted, IntentEdited, IntentReferredTo, IntentReleased
from contracts.otp_scheduling import OtpSchedulingSaved
from contracts.signature import SignatureRefreshed, SignatureRevealed, SignatureRevoked
from contracts.sms import SmsActivated, SmsDeactivated
from projections.settings_rows import CHANNELS, INTENTS, SYSTEMS, ChannelRow, IntentKey, IntentRow, SystemKey, SystemRow
from projections.sql import arrays, records, upsert

NAME = "switchboard.projector"
MODEL = "settings"
TABLES = Path(__file__).with_name("settings_tables.sql")
MIGRATIONS = Path(__file__).with_name("migrations")

Row = TypeVar("Row", ChannelRow, SystemRow | None, IntentRow | None)


class Connection(Protocol):
    """What is used of an asyncpg connection."""

    @property
    def fetch(self) -> Callable[..., Awaitable[list[Any]]]: ...
    @property
    def execute(self) -> Callable[..., Awaitable[str]]: ...


_CHANNELS = "SELECT * FROM channels WHERE channel = ANY($1::text[])"
_SYSTEMS = """
    SELECT s.* FROM business_systems s
    JOIN unnest($1::text[], $2::text[]) AS wanted (channel, system) USING (channel, system)
"""
_INTENTS = """
    SELECT i.* FROM intents i
    JOIN unnest($1::text[], $2::text[], $3::text[]) AS wanted (channel, system, code) USING (channel, system, code)
"""
_FORGET_SYSTEMS = """
    WITH gone AS (SELECT * FROM unnest($1::text[], $2::text[]) AS gone (channel, system)),
    intents AS (DELETE FROM intents USING gone WHERE intents.channel = gone.channel AND intents.system = gone.system)
    DELETE FROM business_systems s USING gone WHERE s.channel = gone.channel AND s.system = gone.system
"""
_FORGET_CHANNELS_SYSTEMS = """
    WITH intents AS (DELETE FROM intents WHERE channel = ANY($1::text[]))
    DELETE FROM business_systems WHERE channel = ANY($1::text[])
"""
_FORGET_INTENTS = """
    DELETE FROM intents i USING unnest($1::text[], $2::text[], $3::text[]) AS gone (channel, system, code)
    WHERE i.channel = gone.channel AND i.system = gone.system AND i.code = gone.code
"""
_POSITION = "SELECT sequence FROM positions WHERE partition = $1"
_MOVE_POSITION = """
    INSERT INTO positions VALUES ($1, $2) ON CONFLICT (partition) DO UPDATE SET sequence = excluded.sequence
"""


_UPSERT_CHANNELS = upsert("channels", CHANNELS, ("channel",))
_UPSERT_SYSTEMS = upsert("business_systems", SYSTEMS, ("channel", "system"))
_UPSERT_INTENTS = upsert("intents", INTENTS, ("channel", "system", "code"))


class Copying(Connection, Protocol):
    """What is used of an asyncpg connection to copy."""

    @property
    def copy_records_to_table(self) -> Callable[..., Awaitable[str]]: ...


class Gap(Exception):
    """An event is not the next one of its channel: the read model and the log do not meet."""


async def apply(connection: Connection, partition: int, events: Iterable[EventEnvelope]) -> None:
    """Folds one partition's events into the tables. Raises `Gap`; events of newer types move the version alone."""
    batch = Fold(partition)
    await batch.add(connection, list(events))
    await batch.write(connection)


class Fold:
    """The rows that events of one partition touch, until they are written; None is a row that is not there."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.sequence: int | None = None
        self.begun: set[str] = set()
        """Channels that were registered in this fold: the tables know nothing of them yet."""
        self.channels: dict[str, ChannelRow] = {}
        self.systems: dict[SystemKey, SystemRow | None] = {}
        self.intents: dict[IntentKey, IntentRow | None] = {}
        self.emptied_systems: set[SystemKey] = set()
        self.emptied_channels: set[str] = set()

    def __len__(self) -> int:
        return len(self.channels) + len(self.systems) + len(self.intents)

    async def add(self, connection: Connection, events: Sequence[EventEnvelope]) -> None:
        """Folds the events, and loads the rows of them that are not here yet."""
        self.begun.update(event.subject for event in events if event.sequence == 1)
        if self.sequence is None:
            rows = await connection.fetch(_POSITION, self.partition)
            self.sequence = rows[0]["sequence"] if rows else None
        await self._load(connection, [event for event in events if event.subject not in self.begun])
        for envelope in events:
            if self.sequence is not None and envelope.partitionsequence != self.sequence + 1:
                raise Gap(
                    f"event {envelope.partitionsequence} of partition {self.partition} came after {self.sequence}"
                )
            self.sequence = envelope.partitionsequence
            self.fold(envelope)

    async def _load(self, connection: Connection, events: Sequence[EventEnvelope]) -> None:
        channels = {event.subject for event in events} - self.channels.keys()
        events = [event for event in events if event.type in EVENTS]
        systems = {(event.subject, event.data["system"]) for event in events if "system" in event.data}
        intents = {
            (event.subject, event.data["system"], event.data["code"]) for event in events if "code" in event.data
        }
        systems -= self.systems.keys()
        intents -= self.intents.keys()
        systems = {key for key in systems if key[0] not in self.emptied_channels}
        intents = {
            key for key in intents if key[:2] not in self.emptied_systems and key[0] not in self.emptied_channels
        }
        if channels:
            for row in await connection.fetch(_CHANNELS, list(channels)):
                self.channels[row["channel"]] = ChannelRow(**row)
        self.systems |= dict.fromkeys(systems)
        if systems:
            for row in await connection.fetch(_SYSTEMS, *map(list, zip(*systems, strict=True))):
                found = SystemRow(**row)
                found.signatures = json.loads(row["signatures"])
                self.systems[found.channel, found.system] = found
        self.intents |= dict.fromkeys(intents)
        if intents:
            for row in await connection.fetch(_INTENTS, *map(list, zip(*intents, strict=True))):
                intent = IntentRow(**row)
                intent.default_data = json.loads(row["default_data"])
                intent.json_schema = None if row["json_schema"] is None else json.loads(row["json_schema"])
                self.intents[intent.channel, intent.system, intent.code] = intent

    def fold(self, envelope: EventEnvelope) -> None:
        channel = self.channels.get(envelope.subject)
        stands = 0 if channel is None else channel.version
        if envelope.sequence != stands + 1:
            raise Gap(f"event {envelope.sequence} of {envelope.subject!r} came after version {stands}")
        body: Any = envelope.body()
        if channel is None:
            if not isinstance(body, ChannelRegistered):
                raise Gap(f"{envelope.subject!r} begins with {envelope.type}")
            self.channels[envelope.subject] = ChannelRow(
                envelope.subject,
                envelope.accountid,
                body.channel_type,
                body.name,
                body.provider,
                version=envelope.sequence,
                channel_changed=envelope.sequence,
            )
            return
        channel.version = envelope.sequence
        if body is not None:
            self._fold(channel, body, envelope)

    def _fold(self, channel: ChannelRow, event: Event, envelope: EventEnvelope) -> None:  # noqa: C901 -- a closed match
        version = envelope.sequence
        match event:
            case ChannelRegistered():
                raise Gap(f"{channel.channel!r} was registered twice")
            case ChannelEdited():
                _set(channel, event.model_dump(exclude_unset=True))
                channel.channel_changed = version
            case ChannelRetired():
                self._retire(channel, version)
            case SmsActivated() | SmsDeactivated():
                channel.sms_enabled, channel.sms_changed = isinstance(event, SmsActivated), version
            case OtpSchedulingSaved():
                channel.otp_enabled, channel.otp_countries = event.enabled, list(event.countries)
                channel.otp_use_own_numbers, channel.otp_changed = event.use_own_numbers, version
            case BusinessSystemOpened():
                self._open(channel.channel, event, version)
            case BusinessSystemDeleted():
                self._empty_system((channel.channel, event.system))
            case IntentAdded():
                self.intents[channel.channel, event.system, event.code] = IntentRow(
                    channel.channel,
                    event.system,
                    event.code,
                    event.name,
                    event.default_data,
                    event.json_schema,
                    changed=version,
                )
            case IntentDeleted():
                self.intents[channel.channel, event.system, event.code] = None
            case IntentEdited() | IntentReferredTo() | IntentReleased():
                self._change_intent(self.intents.get((channel.channel, event.system, event.code)), event, version)
            case (
                BusinessSystemEdited()
                | BusinessSystemDisabled()
                | BusinessSystemEnabled()
                | SignatureRefreshed()
                | SignatureRevealed()
                | SignatureRevoked()
            ):
                system = self.systems.get((channel.channel, event.system))
                if system is not None:
                    _change_system(system, event, version, envelope.time)
            case _:
                assert_never(event)

    def _open(self, channel: str, event: BusinessSystemOpened, version: int) -> None:
        self.systems[channel, event.system] = SystemRow(
            channel,
            event.system,
            event.name,
            event.api_request_url,
            event.remarks,
            event.signature_style,
            changed=version,
            signature_changed=version,
            signatures=[] if event.signature is None else [{**event.signature.model_dump(), "valid_until": None}],
        )

    def _change_intent(
        self, intent: IntentRow | None, event: IntentEdited | IntentReferredTo | IntentReleased, version: int
    ) -> None:
        if intent is None:
            return
        match event:
            case IntentEdited():
                _set(intent, event.model_dump(exclude_unset=True, by_alias=False, exclude={"system", "code"}))
            case IntentReferredTo():
                intent.templates = sorted({*intent.templates, event.template})
            case IntentReleased():
                intent.templates = [template for template in intent.templates if template != event.template]
        intent.changed = version

    def _retire(self, channel: ChannelRow, version: int) -> None:
        channel.retired, channel.channel_changed = True, version
        self.emptied_channels.add(channel.channel)
        for system in [key for key in self.systems if key[0] == channel.channel]:
            self._empty_system(system)

    def _empty_system(self, key: SystemKey) -> None:
        self.systems[key] = None
        self.emptied_systems.add(key)
        for intent in self.intents:
            if intent[:2] == key:
                self.intents[intent] = None

    async def copy_new(self, connection: Copying) -> None:
        """Writes by COPY what belongs to channels that began in this fold; `write` then has the rest to do."""
        for table, columns, rows in (
            ("channels", CHANNELS, self._begun(self.channels)),
            ("business_systems", SYSTEMS, self._begun(self.systems)),
            ("intents", INTENTS, self._begun(self.intents)),
        ):
            if rows:
                there = records((_columns(row) for row in rows if row is not None), columns)
                await connection.copy_records_to_table(table, records=there, columns=list(columns))
        self.emptied_channels -= self.begun
        self.emptied_systems = {key for key in self.emptied_systems if key[0] not in self.begun}

    def _begun(self, rows: dict[Any, Row]) -> list[Row]:
        """Takes them out."""
        begun = [key for key, row in rows.items() if (key if isinstance(key, str) else key[0]) in self.begun]
        return [rows.pop(key) for key in begun]

    async def write(self, connection: Connection) -> None:
        """Deletes first: what was deleted and added again in one batch starts empty."""
        if self.emptied_channels:
            await connection.execute(_FORGET_CHANNELS_SYSTEMS, list(self.emptied_channels))
        if self.emptied_systems:
            await connection.execute(_FORGET_SYSTEMS, *map(list, zip(*self.emptied_systems, strict=True)))
        gone = [key for key, intent in self.intents.items() if intent is None and key[:2] not in self.emptied_systems]
        if gone:
            await connection.execute(_FORGET_INTENTS, *map(list, zip(*gone, strict=True)))
        for statement, columns, rows in (
            (_UPSERT_CHANNELS, CHANNELS, self.channels.values()),
            (_UPSERT_SYSTEMS, SYSTEMS, [row for row in self.systems.values() if row is not None]),
            (_UPSERT_INTENTS, INTENTS, [row for row in self.intents.values() if row is not None]),
        ):
            if rows:
                await connection.execute(statement, *arrays(map(_columns, rows), columns))
        if self.sequence is not None:
            await connection.execute(_MOVE_POSITION, self.partition, self.sequence)


def _columns(row: ChannelRow | SystemRow | IntentRow) -> dict[str, Any]:
    return {column: getattr(row, column) for column in row.__slots__}


def _set(row: ChannelRow | SystemRow | IntentRow, changes: dict[str, Any]) -> None:
    for column, value in changes.items():
        setattr(row, column, value)


def _change_system(
    system: SystemRow,
    event: BusinessSystemEdited
    | BusinessSystemDisabled
    | BusinessSystemEnabled
    | SignatureRefreshed
    | SignatureRevealed
    | SignatureRevoked,
    version: int,
    time: str,
) -> None:
    match event:
        case BusinessSystemEdited():
            _set(system, event.model_dump(exclude_unset=True, exclude={"system"}))
            system.changed = version
        case BusinessSystemDisabled() | BusinessSystemEnabled():
            system.disabled, system.changed = isinstance(event, BusinessSystemDisabled), version
        case SignatureRefreshed():
            system.signature_changed = version
            if event.api_request_url is None:
                _refresh(system, event, time)
        case SignatureRevealed():
            system.signature_changed = version
        case SignatureRevoked():
            system.signature_changed = version
            system.signatures = [one for one in system.signatures if one["key_id"] != event.key_id]
        case _:
            assert_never(event)


def _refresh(system: SystemRow, event: SignatureRefreshed, time: str) -> None:
    """RFC 3339 in UTC with milliseconds: text compares as the times do."""
    ends = {old.key_id: old.valid_until for old in event.replaced}
    older = [{**old, "valid_until": ends.get(old["key_id"], old["valid_until"])} for old in system.signatures]
    fresh = {"key_id": event.key_id, "fingerprint": event.fingerprint, "issued_at": time, "valid_until": None}
    system.signatures = [fresh, *(old for old in older if old["valid_until"] is None or old["valid_until"] > time)]

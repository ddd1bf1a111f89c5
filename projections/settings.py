"""The read model of settings: folds a batch of events, and answers with `ChannelSettings`.

Set-based: one query a table loads the systems and intents that a batch touches, the events are folded in memory, and a
statement for each set of columns writes what changed. It runs inside the caller's transaction, on whatever schema the
search path names.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import cache
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
from contracts.intent import IntentAdded, IntentDeleted, IntentEdited, IntentReferredTo, IntentReleased
from contracts.otp_scheduling import OtpSchedulingSaved
from contracts.signature import SignatureRefreshed, SignatureRevealed, SignatureRevoked
from contracts.sms import SmsActivated, SmsDeactivated
from projections.events import StoredEvent
from projections.settings_rows import (
    CHANNELS,
    INTENTS,
    NEW_CHANNEL,
    SYSTEMS,
    ChannelChange,
    IntentKey,
    IntentRow,
    SystemKey,
    SystemRow,
)
from projections.sql import arrays, records, statements, update, upsert

NAME = "switchboard.projector"
MODEL = "settings"
TABLES = Path(__file__).with_name("settings_tables.sql")
MIGRATIONS = Path(__file__).with_name("migrations")

Row = TypeVar("Row", ChannelChange, SystemRow | None, IntentRow | None)


class Connection(Protocol):
    """What is used of an asyncpg connection."""

    @property
    def fetch(self) -> Callable[..., Awaitable[list[Any]]]: ...
    @property
    def execute(self) -> Callable[..., Awaitable[str]]: ...


_SAYING_ALL = frozenset(kind.__name__ for kind in (SmsActivated, SmsDeactivated, OtpSchedulingSaved))
"""Types of events that say all of their resource, whatever was said before."""

_SQL = statements(Path(__file__).with_suffix(".sql"))
_UPSERT_CHANNELS = upsert("channels", CHANNELS, ("channel",))
_UPSERT_SYSTEMS = upsert("business_systems", SYSTEMS, ("channel", "system"))
_UPSERT_INTENTS = upsert("intents", INTENTS, ("channel", "system", "code"))


@cache
def _change_channels(columns: tuple[str, ...]) -> str:
    """A row that is not at the version at which it was to be found stays as it is."""
    condition = "channels.channel = given.channel AND channels.version = given.found_at"
    return update("channels", _changing(columns), ("version", *columns), condition)


def _changing(columns: Iterable[str]) -> dict[str, str]:
    return {"found_at": "bigint"} | {name: CHANNELS[name] for name in ("channel", "version", *columns)}


class Copying(Connection, Protocol):
    """What is used of an asyncpg connection to copy."""

    @property
    def copy_records_to_table(self) -> Callable[..., Awaitable[str]]: ...


class Gap(Exception):
    """An event is not the next one of its channel: the read model and the log do not meet."""


async def apply(connection: Connection, partition: int, events: Sequence[StoredEvent]) -> None:
    """Folds one partition's events into the tables. Raises `Gap`; events of newer types move the version alone."""
    batch = Fold(partition)
    await batch.add(connection, events)
    await batch.write(connection)


class Fold:
    """The rows that events of one partition touch, until they are written; None is a row that is not there."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.sequence: int | None = None
        self.begun: set[str] = set()
        """Channels that were registered in this fold: the tables know nothing of them yet."""
        self.channels: dict[str, ChannelChange] = {}
        self.systems: dict[SystemKey, SystemRow | None] = {}
        self.intents: dict[IntentKey, IntentRow | None] = {}
        self.emptied_systems: set[SystemKey] = set()
        self.emptied_channels: set[str] = set()

    def __len__(self) -> int:
        return len(self.channels) + len(self.systems) + len(self.intents)

    async def add(self, connection: Connection, events: Sequence[StoredEvent]) -> None:
        """Folds the events, and loads the systems and intents of them that are not here yet."""
        self.begun.update([event.subject for event in events if event.sequence == 1])
        if self.sequence is None:
            rows = await connection.fetch(_SQL["position"], self.partition)
            self.sequence = rows[0]["sequence"] if rows else None
        await self._load(connection, events)
        expected = None if self.sequence is None else self.sequence + 1
        for event in events:
            if expected is not None and event.partitionsequence != expected:
                raise Gap(f"event {event.partitionsequence} of partition {self.partition} came after {expected - 1}")
            expected = event.partitionsequence + 1
            self.fold(event)
        self.sequence = None if expected is None else expected - 1

    async def _load(self, connection: Connection, events: Sequence[StoredEvent]) -> None:
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
        """What the events are about, unless it is here, or cannot be in the tables (any more)."""
        systems: set[SystemKey] = set()
        intents: set[IntentKey] = set()
        for event in events:
            channel = event.subject
            if channel in self.begun or channel in self.emptied_channels or event.type not in EVENTS:
                continue
            system, code = event.about()
            if system is not None:
                systems.add((channel, system))
                if code is not None and (channel, system) not in self.emptied_systems:
                    intents.add((channel, system, code))
        return systems - self.systems.keys(), intents - self.intents.keys()

    def fold(self, event: StoredEvent) -> None:
        version = event.sequence
        if (channel := self.channels.get(event.subject)) is None:
            if version == 1:
                self.channels[event.subject] = _begun(event)
                return
            channel = self.channels[event.subject] = ChannelChange(version - 1, {}, found_at=version - 1)
        if version != channel.version + 1:
            raise Gap(f"event {version} of {event.subject!r} came after version {channel.version}")
        channel.version = version
        if event.type in _SAYING_ALL:
            channel.said[event.resource] = event
        elif (body := event.body()) is not None:
            self._fold(channel.columns, body, event)

    def _fold(self, columns: dict[str, Any], event: Event, envelope: StoredEvent) -> None:  # noqa: C901 -- a closed match
        channel, version = envelope.subject, envelope.sequence
        match event:
            case ChannelRegistered():
                raise Gap(f"{channel!r} was registered twice")
            case ChannelEdited():
                columns |= {name: getattr(event, name) for name in event.model_fields_set}
                columns["channel_changed"] = version
            case ChannelRetired():
                columns["retired"], columns["channel_changed"] = True, version
                self._empty_channel(channel)
            case SmsActivated() | SmsDeactivated():
                columns["sms_enabled"], columns["sms_changed"] = isinstance(event, SmsActivated), version
            case OtpSchedulingSaved():
                columns["otp_enabled"], columns["otp_countries"] = event.enabled, event.countries
                columns["otp_use_own_numbers"], columns["otp_changed"] = event.use_own_numbers, version
            case BusinessSystemOpened():
                self._open(channel, event, version)
            case BusinessSystemDeleted():
                self._empty_system((channel, event.system))
            case IntentAdded():
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
                self.intents[channel, event.system, event.code] = None
            case IntentEdited() | IntentReferredTo() | IntentReleased():
                self._change_intent(self.intents.get((channel, event.system, event.code)), event, version)
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
                    _change_system(system, event, version, envelope.time)
            case _:
                assert_never(event)

    def _settle(self) -> None:
        for change in self.channels.values():
            for event in change.said.values():
                if (body := event.body()) is not None:
                    self._fold(change.columns, body, event)
            change.said.clear()

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

    def _empty_channel(self, channel: str) -> None:
        self.emptied_channels.add(channel)
        for system in [key for key in self.systems if key[0] == channel]:
            self._empty_system(system)

    def _empty_system(self, key: SystemKey) -> None:
        self.systems[key] = None
        self.emptied_systems.add(key)
        for intent in self.intents:
            if intent[:2] == key:
                self.intents[intent] = None

    async def copy_new(self, connection: Copying) -> None:
        """Writes by COPY what belongs to channels that began in this fold; `write` then has the rest to do."""
        self._settle()
        for table, columns, rows in (
            ("channels", CHANNELS, _taken(self.channels, self.begun)),
            ("business_systems", SYSTEMS, _taken(self.systems, self.begun)),
            ("intents", INTENTS, _taken(self.intents, self.begun)),
        ):
            if rows:
                there = records((_columns(row) for row in rows if row is not None), columns)
                await connection.copy_records_to_table(table, records=there, columns=list(columns))
        self.emptied_channels -= self.begun
        self.emptied_systems = {key for key in self.emptied_systems if key[0] not in self.begun}

    async def write(self, connection: Connection) -> None:
        """Deletes first: what was deleted and added again in one batch starts empty. Raises `Gap`."""
        self._settle()
        if self.emptied_channels:
            await connection.execute(_SQL["forget_channels_systems"], list(self.emptied_channels))
        if self.emptied_systems:
            await connection.execute(_SQL["forget_systems"], *map(list, zip(*self.emptied_systems, strict=True)))
        gone = [key for key, intent in self.intents.items() if intent is None and key[:2] not in self.emptied_systems]
        if gone:
            await connection.execute(_SQL["forget_intents"], *map(list, zip(*gone, strict=True)))
        for statement, columns, rows in (
            (_UPSERT_CHANNELS, CHANNELS, [row for row in self.channels.values() if row.found_at is None]),
            (_UPSERT_SYSTEMS, SYSTEMS, [row for row in self.systems.values() if row is not None]),
            (_UPSERT_INTENTS, INTENTS, [row for row in self.intents.values() if row is not None]),
        ):
            if rows:
                await connection.execute(statement, *arrays(map(_columns, rows), columns))
        await self._write_changes(connection)
        if self.sequence is not None:
            await connection.execute(_SQL["move_position"], self.partition, self.sequence)

    async def _write_changes(self, connection: Connection) -> None:
        """Of channels that are there: a statement for all of which the same columns change."""
        alike: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
        for channel, change in self.channels.items():
            if change.found_at is not None:
                row = {"channel": channel, "found_at": change.found_at, "version": change.version, **change.columns}
                alike[tuple(sorted(change.columns))].append(row)
        for columns, rows in alike.items():
            kinds = _changing(columns)
            done = await connection.execute(_change_channels(columns), *arrays(rows, kinds))
            if done != f"UPDATE {len(rows)}":
                await self._find_gap(connection, rows)

    async def _find_gap(self, connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
        """Those that changed stand where they are to be; one of the others does not."""
        found = await connection.fetch(_SQL["versions"], [row["channel"] for row in rows])
        stands = {row["channel"]: row["version"] for row in found}
        for row in rows:
            if (version := stands.get(row["channel"], 0)) != row["version"]:
                raise Gap(f"event {row['found_at'] + 1} of {row['channel']!r} came after version {version}")
        raise Gap(f"channels of partition {self.partition} were changed by somebody else")


def _begun(event: StoredEvent) -> ChannelChange:
    body = event.body()
    if not isinstance(body, ChannelRegistered):
        raise Gap(f"{event.subject!r} begins with {event.type}")
    columns = NEW_CHANNEL | {
        "channel": event.subject,
        "account": event.accountid,
        "channel_type": body.channel_type,
        "name": body.name,
        "provider": body.provider,
        "channel_changed": event.sequence,
    }
    return ChannelChange(event.sequence, columns, found_at=None)


def _taken(rows: dict[Any, Row], channels: set[str]) -> list[Row]:
    """Takes out what belongs to the channels."""
    taken = [key for key in rows if (key if isinstance(key, str) else key[0]) in channels]
    return [rows.pop(key) for key in taken]


def _columns(row: ChannelChange | SystemRow | IntentRow) -> dict[str, Any]:
    if isinstance(row, ChannelChange):
        return {"version": row.version, **row.columns}
    return {column: getattr(row, column) for column in row.__slots__}


def _set(row: SystemRow | IntentRow, changes: dict[str, Any]) -> None:
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

"""Snapshots of the read models to compare with the log: settings version by version, the catalogue at one cut, the
history event by event."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from contracts.bounded_json import compact_json
from contracts.json_values import same_json
from contracts.topics import EVENTS
from projections import catalogue, history, settings
from projections.catalogue import queries as catalogue_queries
from projections.history import queries as history_queries
from services.audit.log.recorded_event import open_systems
from services.audit.log.source import LogPosition
from services.audit.timeline.audit_log import AuditEntry
from services.audit.verification.settings_snapshot import SettingsSnapshot, settings_snapshot
from services.domain.state import ChannelState
from services.infrastructure.checkpoints import next_offsets, next_positions
from services.infrastructure.postgres import Connection, Pool

_TOLD = (
    *("id", "time", "account", "channel", "type", "command", "command_id", "actor", "source", "version", "resource"),
    *("before", "after", "data", "rejection", "message", "repeated"),
)


@dataclass(slots=True)
class CatalogueSnapshot:
    """One digest per channel of the intent catalogue; ``read_to`` is partition -> the offset it reads next."""

    read_to: dict[int, int]
    channels: dict[str, bytes] = field(default_factory=dict)
    compared: int = 0

    def differs(self, channel: str, state: ChannelState) -> bool:
        """Whether it shows something else; ``state`` is of the cut that it has read to."""
        self.compared += 1
        lines = _Lines()
        retired = state.channel is not None and state.channel.retired  # then no button can call anything of it
        systems = {} if retired else open_systems(state)
        for name, system in systems.items():
            lines.system(name, system.name, disabled=system.disabled)
        account = "" if state.channel is None else state.channel.account
        for name, system in systems.items():
            for code, intent in sorted(system.intents.items()):
                documents = (intent.default_data, intent.json_schema)
                lines.intent(account, name, code, intent.name, *documents, list(intent.templates), intent.changed)
        return self.channels.get(channel, _NOTHING) != lines.digest()


class _Lines:
    """Systems first, then intents, each in the order of ids."""

    def __init__(self) -> None:
        self._hash = sha256()

    def system(self, *fields: Any, disabled: bool) -> None:
        self._hash.update(compact_json([*fields, disabled]).encode(errors="surrogatepass") + b"\n")

    def intent(self, *fields: Any) -> None:
        self._hash.update(compact_json(fields).encode(errors="surrogatepass") + b"\n")

    def digest(self) -> bytes:
        return self._hash.digest()


_NOTHING = _Lines().digest()


@dataclass(slots=True)
class HistorySnapshot:
    """The history's entries of events, looked up batch by batch: once written, they stay."""

    pool: Pool
    read_to: dict[int, int]
    compared: int = 0
    _expected: list[AuditEntry] = field(default_factory=list)
    _offsets: set[int] = field(default_factory=set)
    _compared_to: dict[int, int] = field(default_factory=dict)

    def process(self, position: LogPosition) -> None:
        """Notes that the log has a record there."""
        self._offsets.add(position.offset)

    def expect(self, entry: AuditEntry) -> None:
        """Queues an event's entry for the comparison."""
        if entry.position.offset < self.read_to.get(entry.position.partition, 0):
            self._expected.append(entry)

    async def differing(self, partition: int, *, at_end: bool = False) -> list[tuple[LogPosition, str, str]]:
        """(position, clause, channel) of the entries since the last call that are missing, different, or added."""
        expected, self._expected = self._expected, []
        offsets, self._offsets = self._offsets, set()
        first, last = self._compared_to.get(partition, 0), max(offsets, default=-1)
        if at_end:
            last = max(last, self.read_to.get(partition, 0) - 1)
        if last < first:
            return []
        self._compared_to[partition] = last + 1
        entries = await history_queries.events_between(self.pool, partition, first, last)
        self.compared += len(expected)
        found = [
            (
                LogPosition(EVENTS.name, partition, offset),
                "the history has an entry of it, the log no event",
                row["channel"],
            )
            for offset, row in sorted(entries.items())
            if offset not in offsets
        ]
        for entry in expected:
            stored = entries.get(entry.position.offset)
            if stored is None:
                found.append((entry.position, "the history has no entry of it, though it has read it", entry.channel))
            elif fields := _differing(entry, stored):
                found.append((entry.position, f"the history tells it otherwise: {', '.join(fields)}", entry.channel))
        return found


def _differing(entry: AuditEntry, stored: Mapping[str, Any]) -> list[str]:
    """PostgreSQL's text knows no NUL, so the history has another character in its place."""
    found = []
    for name in _TOLD:
        value = getattr(entry, name)
        text = value.replace("\0", "\ufffd") if isinstance(value, str) else value
        if not same_json(None if text is False else text, stored.get(name)):  # as the history leaves it out
            found.append(name)
    return found


@dataclass(slots=True)
class ReadModelSnapshot:
    """``sequences`` is read model -> partition -> the number of the last event that its checkpoint counts."""

    settings: SettingsSnapshot
    catalogue: CatalogueSnapshot
    history: HistorySnapshot
    sequences: dict[str, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))

    def unknown_channels(self, in_log: set[str]) -> dict[str, str]:
        """Channels that one of them shows and the log does not know, with which."""
        found = dict.fromkeys(self.catalogue.channels.keys() - in_log, "the intent catalogue")
        return found | dict.fromkeys(self.settings.unknown_channels(in_log), "the read model")

    def read_to(self, partition: int) -> dict[str, int]:
        """Read model -> the offset of the partition that it reads next."""
        return {name: read_to.get(partition, 0) for name, read_to in self._read_to().items()}

    def _read_to(self) -> dict[str, dict[int, int]]:
        return {
            "settings": self.settings.read_to,
            "catalogue": self.catalogue.read_to,
            "history": self.history.read_to,
        }

    def shows_unread(self, channel: str, version: int, position: LogPosition) -> Iterator[str]:
        """Read models that show this event as the channel's latest, or the channel at all, before they have read it.

        The history's entries are looked at in `stray_rows`.
        """
        read_to = self.read_to(position.partition)
        stored = self.settings.channels.get(channel)
        if position.offset >= read_to["settings"] and stored is not None and stored.version == version:
            yield "settings"
        if position.offset >= read_to["catalogue"] and version == 1 and channel in self.catalogue.channels:
            yield "catalogue"

    async def stray_rows(self, partitions: Set[int]) -> list[tuple[LogPosition, str, str | None]]:
        """(position, clause, channel) of rows that belong to no event that was read; ``partitions`` are the log's."""
        found: list[tuple[LogPosition, str, str | None]] = [
            (LogPosition(EVENTS.name, -1, -1), f"the read model has a row of {what} whose owner has none", channel)
            for channel, what in self.settings.orphans
        ]
        found += [
            (
                LogPosition(EVENTS.name, partition, -1),
                f"the {model} has a checkpoint of it, which the log does not have",
                None,
            )
            for model, read_to in self._read_to().items()
            for partition in sorted(read_to.keys() - partitions)
        ]
        return found + [
            (
                LogPosition(EVENTS.name, partition, offset),
                "the history has an entry of it, but has not read it",
                channel,
            )
            for partition, offset, channel in await history_queries.unread_events(self.history.pool)
        ]


@asynccontextmanager
async def read_model_snapshot(pool: Pool, now: int) -> AsyncIterator[ReadModelSnapshot]:
    """Enter it before the log's ends are read: the log then contains everything that the snapshot shows."""
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        settings_ = await settings_snapshot(connection, now, await next_offsets(connection, settings.NAME))
        intents = await _catalogue_snapshot(connection)
        read_to = await next_offsets(connection, history.NAME)
        sequences = {
            model.MODEL: {
                partition: position.sequence
                for partition, position in (await next_positions(connection, model.NAME, EVENTS.name)).items()
                if position.sequence is not None
            }
            for model in (settings, catalogue, history)
        }
    yield ReadModelSnapshot(settings_, intents, HistorySnapshot(pool, read_to), sequences)


async def _catalogue_snapshot(connection: Connection) -> CatalogueSnapshot:
    lines: dict[str, _Lines] = {}
    async for row in catalogue_queries.all_systems(connection):
        lines.setdefault(row["channel"], _Lines()).system(row["system"], row["name"], disabled=row["disabled"])
    async for row in catalogue_queries.all_intents(connection):
        documents = [None if row[name] is None else json.loads(row[name]) for name in ("default_data", "json_schema")]
        fields = (row["account"], row["system"], row["code"], row["name"])
        lines.setdefault(row["channel"], _Lines()).intent(*fields, *documents, list(row["templates"]), row["version"])
    found = {channel: one.digest() for channel, one in lines.items()}
    return CatalogueSnapshot(await next_offsets(connection, catalogue.NAME), found)

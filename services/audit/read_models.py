"""The read models, to be held against the log: settings version by version, the catalogue at one cut, the history
event by event."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from contracts import topics
from contracts.message import compact_json
from projections import catalogue, history, history_queries, settings
from services.audit.history import systems_of
from services.audit.leaves import same
from services.audit.shown_settings import ShownSettings, shown_settings
from services.audit.trail import Entry
from services.domain.state import ChannelState
from services.infrastructure.postgres import Connection, Pool

_CHECKPOINTS = "SELECT partition, next_offset FROM switchboard.checkpoints WHERE consumer = $1 AND topic = $2"
_TOLD = "id time account channel type command command_id actor source version resource before after data".split()


@dataclass(slots=True)
class ShownCatalogue:
    """A digest a channel of what the intent catalogue shows; ``read_to`` is partition -> the offset it reads next."""

    read_to: dict[int, int]
    channels: dict[str, bytes] = field(default_factory=dict)
    compared: int = 0

    def differs(self, channel: str, state: ChannelState) -> bool:
        """Whether it shows something else; ``state`` is of the cut that it has read to."""
        self.compared += 1
        shown = _Lines()
        for name, system in systems_of(state).items():
            shown.system(name, system.name, disabled=system.disabled)
        account = "" if state.channel is None else state.channel.account
        for name, system in systems_of(state).items():
            for code, intent in sorted(system.intents.items()):
                documents = (intent.default_data, intent.json_schema)
                shown.intent(account, name, code, intent.name, *documents, list(intent.templates), intent.changed)
        return self.channels.get(channel, _NOTHING) != shown.digest()


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
class ShownHistory:
    """The history's entries of events, looked up batch by batch: once written, they stay."""

    pool: Pool
    read_to: dict[int, int]
    compared: int = 0
    _told: list[Entry] = field(default_factory=list)

    def expect(self, entry: Entry) -> None:
        """What the log tells of an event."""
        if entry.position.offset < self.read_to.get(entry.position.partition, 0):
            self._told.append(entry)

    async def differing(self) -> list[tuple[Entry, str]]:
        """Of those told since, the ones that the history has otherwise, with a clause on each."""
        told, self._told = self._told, []
        if not told:
            return []
        partition, offsets = told[0].position.partition, [entry.position.offset for entry in told]
        entries = await history_queries.events_between(self.pool, partition, min(offsets), max(offsets))
        self.compared += len(told)
        found = []
        for entry in told:
            shown = entries.get(entry.position.offset)
            if shown is None:
                found.append((entry, "the history has no entry of it, though it has read it"))
            elif fields := _differing(entry, shown):
                found.append((entry, f"the history tells it otherwise: {', '.join(fields)}"))
        return found


def _differing(entry: Entry, shown: Mapping[str, Any]) -> list[str]:
    """PostgreSQL's text knows no NUL, so the history has another character in its place."""
    found = []
    for name in _TOLD:
        value = getattr(entry, name)
        told = value.replace("\0", "\ufffd") if isinstance(value, str) else value
        if not same(told, shown.get(name)):
            found.append(name)
    return found


@dataclass(slots=True)
class ReadModels:
    settings: ShownSettings
    catalogue: ShownCatalogue
    history: ShownHistory

    def strangers(self, known: set[str]) -> dict[str, str]:
        """Channels that one of them shows and the log does not know, with which."""
        found = dict.fromkeys(self.catalogue.channels.keys() - known, "the intent catalogue")
        return found | dict.fromkeys(self.settings.channels.keys() - known, "the read model")


@asynccontextmanager
async def read_models(pool: Pool, now: int) -> AsyncIterator[ReadModels]:
    """To be entered before the log's ends are taken: the log then has all that they show."""
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        shown = await shown_settings(connection, now, await _read_to(connection, settings.NAME))
        intents = await _shown_catalogue(connection)
        read_to = await _read_to(connection, history.NAME)
    yield ReadModels(shown, intents, ShownHistory(pool, read_to))


async def _read_to(connection: Connection, consumer: str) -> dict[int, int]:
    rows = await connection.fetch(_CHECKPOINTS, consumer, topics.EVENTS.name)
    return {row["partition"]: row["next_offset"] for row in rows}


async def _shown_catalogue(connection: Connection) -> ShownCatalogue:
    lines: dict[str, _Lines] = {}
    async for row in catalogue.all_systems(connection):
        lines.setdefault(row["channel"], _Lines()).system(row["system"], row["name"], disabled=row["disabled"])
    async for row in catalogue.all_intents(connection):
        documents = [None if row[name] is None else json.loads(row[name]) for name in ("default_data", "json_schema")]
        fields = (row["account"], row["system"], row["code"], row["name"])
        lines.setdefault(row["channel"], _Lines()).intent(*fields, *documents, list(row["templates"]), row["version"])
    found = {channel: one.digest() for channel, one in lines.items()}
    return ShownCatalogue(await _read_to(connection, catalogue.NAME), found)

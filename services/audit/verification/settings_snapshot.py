"""A snapshot of the settings read model, as one digest per channel, to compare with the fold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256

from pydantic import ValidationError

from contracts.envelope import validation_message
from contracts.message import rfc3339
from contracts.resources import CHANNEL
from contracts.settings import SECTIONS, ChannelSettings
from projections.settings import queries as settings_queries
from services.audit.log.recorded_event import open_systems
from services.audit.timeline.channel_settings import channel_settings
from services.domain.state import ChannelState
from services.infrastructure.postgres import Connection

_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class ChannelDigest:
    version: int
    digest: bytes


@dataclass(slots=True)
class SettingsSnapshot:
    """``now`` is the time of the snapshot in Unix milliseconds.

    ``read_to`` is partition -> the offset that it reads next.
    ``unreadable`` is channel -> a clause on its rows, ``orphans`` are rows whose channel or business system is missing.
    """

    now: int
    read_to: dict[int, int]
    channels: dict[str, ChannelDigest] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    orphans: list[tuple[str, str]] = field(default_factory=list)
    compared: set[str] = field(default_factory=set)

    def differs(self, channel: str, state: ChannelState) -> bool:
        """Whether it shows other settings in the version that the state has; False where it shows another version."""
        stored, folded = self.channels.get(channel), state.channel
        if stored is None or folded is None or stored.version != folded.version:
            return False
        self.compared.add(channel)
        settings = channel_settings(channel, state, self.now)
        return settings is None or _digest(settings, _changes(state)) != stored.digest

    def version_problem(self, channel: str, version: int, partition: int, offset: int) -> str | None:
        """A clause where it is not at the channel's last event although it has read it, or shows a later version."""
        if channel in self.unreadable:
            return f"the read model's rows of the channel cannot be read: {self.unreadable[channel]}"
        stored = self.channels.get(channel)
        stands = 0 if stored is None else stored.version
        if stands > version:
            return f"the read model shows version {stands}, which the log does not have"
        if stands < version and offset < self.read_to.get(partition, 0):
            return f"the read model shows version {stands}, though it has read version {version}"
        return None

    def unknown_channels(self, in_log: set[str]) -> Iterator[str]:
        """Channels that it shows and the log does not know."""
        yield from sorted((self.channels.keys() | self.unreadable.keys()) - in_log)


def _changes(state: ChannelState) -> dict[str, int]:
    """As `settings_with_changes` has them; a section that never changed is not stored."""
    channel = state.channel
    if channel is None:
        return {}
    changes = {CHANNEL: channel.channel_changed}
    for name, section in SECTIONS.items():
        if changed := getattr(channel, f"{name}_changed"):
            changes[section.resource] = changed
    for name, system in open_systems(state).items():
        changes[name], changes[f"{name} signature"] = system.changed, system.signature_changed
        changes |= {f"{name}/{code}": intent.changed for code, intent in system.intents.items()}
    return changes


def _digest(settings: ChannelSettings, changes: dict[str, int]) -> bytes:
    """Of the settings as JSON, sorted by id, as a database's collation may sort otherwise."""
    document = settings.model_dump(mode="json", by_alias=True)
    document["business_systems"].sort(key=lambda one: one["system"])
    for system in document["business_systems"]:
        system["intents"].sort(key=lambda one: one["code"])
    return sha256(json.dumps([document, changes], sort_keys=True).encode()).digest()


async def settings_snapshot(connection: Connection, now: int, read_to: dict[int, int]) -> SettingsSnapshot:
    """In the connection's snapshot. Takes 32 bytes of memory per channel."""
    found = SettingsSnapshot(now, read_to)
    found.orphans = await settings_queries.orphans(connection)
    after = ""
    while page := await settings_queries.channel_ids(connection, after, _PAGE):
        for channel in page:
            try:
                whole = await settings_queries.settings_with_changes(connection, channel, rfc3339(now))
            except ValidationError as error:
                found.unreadable[channel] = validation_message(error)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                found.unreadable[channel] = f"{type(error).__name__}: {error}"
            else:
                if whole is not None:
                    found.channels[channel] = ChannelDigest(whole[0].version, _digest(*whole))
        after = page[-1]
    return found

"""The settings as the read model shows them, a snapshot to hold against the fold: a digest a channel."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256

from contracts.message import rfc3339
from contracts.settings import ChannelSettings
from projections import settings_queries
from services.audit.as_of import settings_of
from services.domain.state import ChannelState
from services.infrastructure.postgres import Connection

_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class Shown:
    version: int
    digest: bytes


@dataclass(slots=True)
class ShownSettings:
    """``read_to`` is partition -> the offset that it reads next; ``now`` (Unix milliseconds) when it was looked at."""

    now: int
    read_to: dict[int, int]
    channels: dict[str, Shown] = field(default_factory=dict)
    compared: set[str] = field(default_factory=set)

    def differs(self, channel: str, state: ChannelState) -> bool:
        """Whether it shows other settings in the version that the state has; False where it shows another version."""
        shown, known = self.channels.get(channel), state.channel
        if shown is None or known is None or shown.version != known.version:
            return False
        self.compared.add(channel)
        settings = settings_of(channel, state, self.now)
        return settings is None or _digest(settings) != shown.digest

    def amiss(self, channel: str, version: int, partition: int, offset: int) -> str | None:
        """A clause where it is not at the channel's last event although it has read it, or shows a later version."""
        shown = self.channels.get(channel)
        stands = 0 if shown is None else shown.version
        if stands > version:
            return f"the read model shows version {stands}, which the log does not have"
        if stands < version and offset < self.read_to.get(partition, 0):
            return f"the read model shows version {stands}, though it has read version {version}"
        return None

    def strangers(self, known: set[str]) -> Iterator[str]:
        """Channels that it shows and the log does not know."""
        yield from sorted(self.channels.keys() - known)


def _digest(settings: ChannelSettings) -> bytes:
    """Of the settings as JSON, their parts in the order of ids: a database sorts as its collation has it."""
    shown = settings.model_dump(mode="json", by_alias=True)
    shown["business_systems"].sort(key=lambda one: one["system"])
    for system in shown["business_systems"]:
        system["intents"].sort(key=lambda one: one["code"])
    return sha256(json.dumps(shown, sort_keys=True).encode()).digest()


async def shown_settings(connection: Connection, now: int, read_to: dict[int, int]) -> ShownSettings:
    """In the connection's snapshot. 32 bytes of memory a channel."""
    found = ShownSettings(now, read_to)
    after = ""
    while page := await settings_queries.channels(connection, None, after, _PAGE):
        for one in page:
            whole = await settings_queries.settings_of(connection, one.channel, rfc3339(now))
            if whole is not None:
                found.channels[one.channel] = Shown(whole[0].version, _digest(whole[0]))
        after = page[-1].channel
    return found

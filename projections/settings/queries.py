"""Reading the settings, in the shapes of the contract. Every query reads the views of schema ``settings``."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.cursor import Position
from contracts.resources import CHANNEL
from contracts.section import SectionSettings
from contracts.settings import (
    SECTIONS,
    BusinessSystemSettings,
    ChannelSettings,
    IntentSettings,
    SignatureSettings,
)
from contracts.settings_diff import BUSINESS_SYSTEMS, INTENTS
from contracts.topics import EVENTS
from projections.settings import NAME
from projections.sql import SqlConnection, statements

_SQL = statements(Path(__file__).with_suffix(".sql"))

Parse = Callable[[str], Any]
"""What becomes of the JSON text of an intent's documents."""


class ResourceVersions:
    """The version in which a resource, or one above or below it on its path, changed last.

    ETags carry it, and the decider compares the same with an expected version (`services/domain/expected_version.py`).
    """

    def __init__(self, channel: Any, systems: list[Any], intents: list[Any]) -> None:
        self._versions: dict[str, int] = {CHANNEL: channel["channel_changed"]}
        for resource, section in json.loads(channel["sections"]).items():
            self._versions[resource] = section["changed"]
        newest = channel["closed_changed"]
        system_changed: dict[str, int] = {}
        for system in systems:
            path = f"{BUSINESS_SYSTEMS}/{system['system']}"
            own = system_changed[path] = system["changed"]
            self._versions[f"{path}/signature"] = max(own, system["signature_changed"])
            self._versions[f"{path}/{INTENTS}"] = max(own, system["intents_changed"])
            self._versions[path] = max(own, system["signature_changed"], system["intents_changed"])
            newest = max(newest, self._versions[path])
        self._versions[BUSINESS_SYSTEMS] = newest
        for intent in intents:
            path = f"{BUSINESS_SYSTEMS}/{intent['system']}"
            self._versions[f"{path}/{INTENTS}/{intent['code']}"] = max(system_changed[path], intent["changed"])

    def of(self, resource: str) -> int:
        """``resource`` is a resource, or the list of a channel's business systems or of a system's intents."""
        return self._versions.get(resource, 0)


async def list_channels(
    connection: SqlConnection,
    account: str | None,
    after: str,
    limit: int,
    *,
    channel: str | None = None,
    provider: str | None = None,
) -> list[ChannelSettings]:
    """A page of channels, without their business systems; of all accounts where ``account`` is None.

    Only that one where ``channel`` is given, and only the provider's where ``provider`` is.
    """
    rows = await connection.fetch(_SQL["channels"], account, after, limit, channel, provider)
    return [_settings(row, [], [], "") for row in rows]


async def list_by_account(
    connection: SqlConnection,
    account: str | None,
    after: tuple[str, str],
    limit: int,
    *,
    channel: str | None = None,
    provider: str | None = None,
) -> list[ChannelSettings]:
    """As `list_channels`, but by account, then by id. ``after`` is the account and id of a channel."""
    rows = await connection.fetch(_SQL["by_account"], account, *after, limit, channel, provider)
    return [_settings(row, [], [], "") for row in rows]


async def channel_counts(
    connection: SqlConnection, accounts: list[str], *, channel: str | None = None, provider: str | None = None
) -> dict[str, tuple[int, int]]:
    """How many channels each account has, and how many of them are retired, of those that `list_by_account` lists."""
    rows = await connection.fetch(_SQL["channel_counts"], accounts, channel, provider)
    return {row["account"]: (row["channels"], row["retired"]) for row in rows}


async def system_digests(connection: SqlConnection, channels: list[str]) -> dict[str, dict[str, str]]:
    """Channel -> business system -> a digest of its fields and intents, without its signatures."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for row in await connection.fetch(_SQL["systems_compared"], channels):
        found[row["channel"]][row["system"]] = row["digest"]
    return found


@dataclass(frozen=True, slots=True)
class ChannelSearch:
    """``account`` None means all, as an empty ``words`` or ``channel_type`` does. Words are part of an id or a name."""

    account: str | None = None
    words: str = ""
    channel_type: str = ""


async def search_channels(
    connection: SqlConnection, search: ChannelSearch, after: str, limit: int
) -> list[ChannelSettings]:
    """A page of the channels that are sought, by id, without their business systems."""
    words = search.words.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    rows = await connection.fetch(_SQL["search"], search.account, after, limit, f"%{words}%", search.channel_type)
    return [_settings(row, [], [], "") for row in rows]


async def channel_ids(connection: SqlConnection, after: str, limit: int) -> list[str]:
    """A page of the ids of all channels."""
    return [row["channel"] for row in await connection.fetch(_SQL["channel_ids"], after, limit)]


async def orphans(connection: SqlConnection) -> list[tuple[str, str]]:
    """(channel, what it is) of rows whose channel or business system has no row: at most 100."""
    return [(row["channel"], row["what"]) for row in await connection.fetch(_SQL["orphans"])]


async def settings_with_changes(
    connection: SqlConnection, channel: str, now: str
) -> tuple[ChannelSettings, dict[str, int]] | None:
    """As `channel_settings`, with the version that each stored row or section says that it changed in."""
    rows = await connection.fetch(_SQL["channel"], channel, None)
    if not rows:
        return None
    systems = await connection.fetch(_SQL["systems"], channel)
    intents = await connection.fetch(_SQL["intents"], channel)
    changes = {CHANNEL: rows[0]["channel_changed"]}
    changes |= {name: section["changed"] for name, section in json.loads(rows[0]["sections"]).items()}
    for one in systems:
        changes[one["system"]], changes[f"{one['system']} signature"] = one["changed"], one["signature_changed"]
    changes |= {f"{one['system']}/{one['code']}": one["changed"] for one in intents}
    return _settings(rows[0], systems, intents, now), changes


async def positions(connection: SqlConnection) -> dict[int, Position]:
    """How far the read model has read each partition, in the snapshot of the connection's transaction."""
    rows = await connection.fetch(_SQL["positions"], NAME, EVENTS.name)
    return {row["partition"]: Position(row["next_offset"], row["sequence"]) for row in rows}


async def channel_version(connection: SqlConnection, account: str | None, channel: str) -> int:
    """The version that the read model has of the channel; 0 where it has none, or not of this account."""
    return (await owner_and_version(connection, account, channel))[1]


async def owner_and_version(connection: SqlConnection, account: str | None, channel: str) -> tuple[str, int]:
    """The channel's account and version; ("", 0) where there is no such channel, or not of ``account``."""
    rows = await connection.fetch(_SQL["owner_and_version"], channel, account)
    return (rows[0]["account"], rows[0]["version"]) if rows else ("", 0)


async def versions(
    connection: SqlConnection, channels: Sequence[tuple[str | None, str]]
) -> dict[tuple[str | None, str], int]:
    """As `channel_version`, for each pair of an account and a channel; without those that it is 0 for."""
    rows = await connection.fetch(_SQL["versions"], *map(list, zip(*channels, strict=True)))
    return {(row["account"], row["channel"]): row["version"] for row in rows}


async def account_of_providers_channel(connection: SqlConnection, provider: str | None, channel: str) -> str | None:
    """The account of a channel that names the provider; None for any other."""
    rows = await connection.fetch(_SQL["account_of_providers_channel"], channel, provider)
    return rows[0]["account"] if rows else None


async def has_room_for_channel(connection: SqlConnection, account: str, channel: str, quota: int) -> bool:
    """Whether the account has fewer than ``quota`` other channels that are not retired."""
    rows = await connection.fetch(_SQL["other_channels"], account, channel, quota)
    return bool(rows[0]["count"] < quota)


async def channel_settings(
    connection: SqlConnection, account: str | None, channel: str, now: str, parse: Parse = json.loads
) -> tuple[ChannelSettings, ResourceVersions] | None:
    """A channel's settings, whole; ``now`` (RFC 3339) decides which older signatures are still valid.

    None where there is no such channel, or not of this account: the query itself tells, so both take the same time.
    To be called in a transaction of isolation REPEATABLE READ, so that the parts are of one version.
    """
    rows = await connection.fetch(_SQL["channel"], channel, account)
    if not rows:
        return None
    systems = await connection.fetch(_SQL["systems"], channel)
    intents = await connection.fetch(_SQL["intents"], channel)
    return _settings(rows[0], systems, intents, now, parse), ResourceVersions(rows[0], systems, intents)


def _settings(
    channel: Any, systems: list[Any], intents: list[Any], now: str, parse: Parse = json.loads
) -> ChannelSettings:
    by_system: dict[str, list[IntentSettings]] = defaultdict(list)
    for intent in intents:
        by_system[intent["system"]].append(_intent(intent, parse))
    return ChannelSettings(
        channel=channel["channel"],
        account=channel["account"],
        channel_type=channel["channel_type"],
        name=channel["name"],
        provider=channel["provider"],
        retired=channel["retired"],
        home_country=channel["home_country"],
        international_rates_from=json.loads(channel["international_rates_from"] or "null"),
        version=channel["version"],
        business_systems=tuple(_system(system, by_system[system["system"]], now) for system in systems),
        **_sections(channel),
    )


def _sections(channel: Any) -> dict[str, SectionSettings]:
    """Field of `ChannelSettings` -> section. A section that never changed is not stored."""
    stored = json.loads(channel["sections"])
    return {
        field: kind.model_validate(stored[kind.resource]["settings"]) if kind.resource in stored else kind()
        for field, kind in SECTIONS.items()
    }


def _system(row: Any, intents: list[IntentSettings], now: str) -> BusinessSystemSettings:
    signatures = [SignatureSettings(**one) for one in json.loads(row["signatures"])]
    return BusinessSystemSettings(
        system=row["system"],
        name=row["name"],
        api_request_url=row["api_request_url"],
        remarks=row["remarks"],
        signature_style=row["signature_style"],
        disabled=row["disabled"],
        signatures=tuple(one for one in signatures if one.valid_until is None or one.valid_until > now),
        intents=tuple(intents),
    )


def _intent(row: Any, parse: Parse) -> IntentSettings:
    return IntentSettings.model_construct(  # the documents were validated before they were stored
        code=row["code"],
        name=row["name"],
        default_data=parse(row["default_data"]),
        json_schema=None if row["json_schema"] is None else parse(row["json_schema"]),
        templates=tuple(row["templates"]),
    )

"""Reading the settings, in the shapes of the contract. Every query reads the views of schema ``settings``."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from contracts.changes import Place
from contracts.settings import (
    BusinessSystemSettings,
    ChannelSettings,
    IntentSettings,
    OtpSchedulingSettings,
    SignatureSettings,
    SmsSettings,
)
from contracts.topics import EVENTS
from projections.settings import NAME, Connection

_LIST = """
    SELECT * FROM settings.channels
    WHERE ($1::text IS NULL OR account = $1) AND channel > $2 ORDER BY channel LIMIT $3
"""
_CHANNEL = "SELECT * FROM settings.channels WHERE channel = $1"
_SYSTEMS = "SELECT * FROM settings.business_systems WHERE channel = $1 ORDER BY system"
_INTENTS = "SELECT * FROM settings.intents WHERE channel = $1 ORDER BY system, code"
_PLACES = """
    SELECT partition, next_offset, sequence
    FROM switchboard.checkpoints LEFT JOIN settings.positions USING (partition) WHERE consumer = $1 AND topic = $2
"""


class Versions:
    """In which version of the channel each resource changed last, itself or below: what its ETag carries."""

    def __init__(self, channel: Any, systems: list[Any], intents: list[Any]) -> None:
        self._versions: dict[str, int] = {
            "channel": channel["channel_changed"],
            "sms": channel["sms_changed"],
            "otp-scheduling": channel["otp_changed"],
        }
        for system in systems:
            path = f"business-systems/{system['system']}"
            self._versions[path] = max(system["changed"], system["signature_changed"])
            self._versions[f"{path}/signature"] = max(system["changed"], system["signature_changed"])
        for intent in intents:
            path = f"business-systems/{intent['system']}"
            self._versions[path] = max(self._versions.get(path, 0), intent["changed"])
            self._versions[f"{path}/intents/{intent['code']}"] = intent["changed"]

    def of(self, resource: str) -> int:
        return self._versions.get(resource, 0)


async def channels(connection: Connection, account: str | None, after: str, limit: int) -> list[ChannelSettings]:
    """A page of channels, without their business systems; of all accounts where ``account`` is None."""
    rows = await connection.fetch(_LIST, account, after, limit)
    return [_settings(row, [], [], "") for row in rows]


async def places(connection: Connection) -> dict[int, Place]:
    """How far the read model has read each partition, in the snapshot of the connection's transaction."""
    rows = await connection.fetch(_PLACES, NAME, EVENTS.name)
    return {row["partition"]: Place(row["next_offset"], row["sequence"]) for row in rows}


async def channel_version(connection: Connection, account: str | None, channel: str) -> int:
    """The version that the read model has of the channel; 0 where it has none, or not of this account."""
    rows = await connection.fetch(
        "SELECT version FROM settings.channels WHERE channel = $1 AND ($2::text IS NULL OR account = $2)",
        channel,
        account,
    )
    return rows[0]["version"] if rows else 0


async def settings_of(connection: Connection, channel: str, now: str) -> tuple[ChannelSettings, Versions] | None:
    """A channel's settings, whole; ``now`` (RFC 3339) decides which older signatures are still valid.

    To be called in a transaction of isolation REPEATABLE READ, so that the parts are of one version.
    """
    rows = await connection.fetch(_CHANNEL, channel)
    if not rows:
        return None
    systems = await connection.fetch(_SYSTEMS, channel)
    intents = await connection.fetch(_INTENTS, channel)
    return _settings(rows[0], systems, intents, now), Versions(rows[0], systems, intents)


def _settings(channel: Any, systems: list[Any], intents: list[Any], now: str) -> ChannelSettings:
    by_system: dict[str, list[IntentSettings]] = defaultdict(list)
    for intent in intents:
        by_system[intent["system"]].append(_intent(intent))
    return ChannelSettings(
        channel=channel["channel"],
        account=channel["account"],
        channel_type=channel["channel_type"],
        name=channel["name"],
        provider=channel["provider"],
        retired=channel["retired"],
        version=channel["version"],
        business_systems=tuple(_system(system, by_system[system["system"]], now) for system in systems),
        sms=SmsSettings(enabled=channel["sms_enabled"]),
        otp_scheduling=OtpSchedulingSettings(
            enabled=channel["otp_enabled"],
            countries=tuple(channel["otp_countries"]),
            use_own_numbers=channel["otp_use_own_numbers"],
        ),
    )


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


def _intent(row: Any) -> IntentSettings:
    return IntentSettings(
        code=row["code"],
        name=row["name"],
        default_data=json.loads(row["default_data"]),
        json_schema=None if row["json_schema"] is None else json.loads(row["json_schema"]),
        templates=tuple(row["templates"]),
    )

"""The router's replica of the settings: what routing needs, built from the events."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from contracts.channel import ChannelEdited, ChannelRegistered, ChannelRetired
from contracts.envelope import EventEnvelope
from contracts.otp_scheduling import OtpSchedulingSaved
from contracts.sms import SmsActivated, SmsDeactivated
from contracts.spend_guard import SpendGuardSaved, SpendGuardSettings
from services.domain.message_routing.lifecycle import Switches
from services.domain.message_routing.route import RoutingSettings, SpendGuard
from services.infrastructure.postgres import Connection, Pool

_FIND = "SELECT * FROM message_router.channels WHERE channel = ANY($1::text[])"
_SCHEDULED = """
    SELECT channel FROM message_router.channels WHERE scheduling_enabled AND NOT retired AND channel > $1
    ORDER BY channel LIMIT $2
"""
_INSERT = """
    INSERT INTO message_router.channels
        (channel, account, version, channel_type, home_country, international_rates_from)
    VALUES ($1, $2, 0, $3, $4, $5) ON CONFLICT DO NOTHING
"""
_SELECT_VERSIONS = """
    SELECT w.account, w.channel, c.version FROM unnest($1::text[], $2::text[]) AS w(account, channel)
    JOIN message_router.channels c ON c.channel = w.channel AND (w.account IS NULL OR c.account = w.account)
"""
_VERSIONS = """
    UPDATE message_router.channels c SET version = w.version
    FROM unnest($1::text[], $2::bigint[]) AS w(channel, version) WHERE c.channel = w.channel
"""


@dataclass(frozen=True, slots=True)
class RoutedChannel:
    """A channel as the replica has it."""

    account: str
    settings: RoutingSettings
    switches: Switches


async def load_channels(connection: Connection, channels: Collection[str]) -> dict[str, RoutedChannel]:
    rows = await connection.fetch(_FIND, list(channels))
    return {row["channel"]: _channel(row) for row in rows}


async def versions(
    connection: Connection | Pool, channels: Sequence[tuple[str | None, str]]
) -> dict[tuple[str | None, str], int]:
    """The version of each channel, of an account or of any; without channels that the replica does not have."""
    rows = await connection.fetch(_SELECT_VERSIONS, *map(list, zip(*channels, strict=True)))
    return {(row["account"], row["channel"]): row["version"] for row in rows}


async def scheduled_channels(connection: Connection | Pool, after: str, limit: int) -> list[str]:
    """A page of the ids of channels that have OTP delivery scheduling on and are not retired."""
    return [row["channel"] for row in await connection.fetch(_SCHEDULED, after, limit)]


def _channel(row: Any) -> RoutedChannel:
    settings = RoutingSettings(
        version=row["version"],
        channel_type=row["channel_type"],
        scheduling_enabled=row["scheduling_enabled"],
        countries=frozenset(row["countries"]),
        use_own_numbers=row["use_own_numbers"],
        home_country=row["home_country"],
        international_rates_from=json.loads(row["international_rates_from"]),
        spend_guard=SpendGuard() if row["spend_guard"] is None else _spend_guard(row["spend_guard"]),
    )
    return RoutedChannel(row["account"], settings, Switches(row["sms_enabled"], row["retired"]))


def _spend_guard(section: str) -> SpendGuard:
    return guard_of(SpendGuardSettings.model_validate_json(section))


def guard_of(saved: SpendGuardSettings) -> SpendGuard:
    """The guard as a route takes it."""
    most = saved.max_rate
    max_rate = None if most is None else (Decimal(most.amount), most.currency)
    return SpendGuard(saved.mode, max_rate, saved.daily_messages_per_country)


async def apply_events(connection: Connection, _: int, records: Sequence[Any]) -> None:
    """Applies a batch of events of one partition."""
    versions: dict[str, int] = {}
    for record in records:
        envelope = EventEnvelope.model_validate_json(record.value)
        await _apply(connection, envelope, envelope.body())
        versions[envelope.subject] = envelope.sequence
    await connection.execute(_VERSIONS, list(versions), list(versions.values()))


async def _apply(connection: Connection, envelope: EventEnvelope, event: object) -> None:
    channel = envelope.subject
    match event:
        case ChannelRegistered():
            rates_from = json.dumps(event.international_rates_from or {})
            await connection.execute(
                _INSERT, channel, envelope.accountid, event.channel_type, event.home_country, rates_from
            )
        case ChannelEdited():
            await _apply_edit(connection, channel, event)
        case ChannelRetired():
            await connection.execute("UPDATE message_router.channels SET retired = true WHERE channel = $1", channel)
        case SmsActivated() | SmsDeactivated():
            await connection.execute(
                "UPDATE message_router.channels SET sms_enabled = $2 WHERE channel = $1",
                channel,
                isinstance(event, SmsActivated),
            )
        case OtpSchedulingSaved():
            await connection.execute(
                "UPDATE message_router.channels SET scheduling_enabled = $2, countries = $3, use_own_numbers = $4 "
                "WHERE channel = $1",
                channel,
                event.enabled,
                list(event.countries),
                event.use_own_numbers,
            )
        case SpendGuardSaved():
            await connection.execute(
                "UPDATE message_router.channels SET spend_guard = $2 WHERE channel = $1",
                channel,
                event.section().model_dump_json(),
            )
        case _:
            pass  # no route depends on it


async def _apply_edit(connection: Connection, channel: str, event: ChannelEdited) -> None:
    if "home_country" in event.model_fields_set:
        await connection.execute(
            "UPDATE message_router.channels SET home_country = $2 WHERE channel = $1", channel, event.home_country
        )
    if "international_rates_from" in event.model_fields_set:
        await connection.execute(
            "UPDATE message_router.channels SET international_rates_from = $2 WHERE channel = $1",
            channel,
            json.dumps(event.international_rates_from or {}),
        )

"""What the invoker knows of settings: tables of its own, fed from the events and the encrypted signatures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from contracts.business_system import (
    BusinessSystemDeleted,
    BusinessSystemDisabled,
    BusinessSystemEdited,
    BusinessSystemEnabled,
    BusinessSystemOpened,
    SignatureStyle,
)
from contracts.channel import ChannelRegistered, ChannelRetired
from contracts.envelope import EventEnvelope
from contracts.intent import IntentAdded, IntentDeleted, IntentEdited
from contracts.message import compact_json
from contracts.signature import SignatureRefreshed, SignatureRevoked
from services.infrastructure.postgres import Connection
from services.infrastructure.vault import KeyRing, SignatureAddress


async def learn_events(connection: Connection, _: int, records: Sequence[Any]) -> None:
    """Applies a batch of one partition's events."""
    for record in records:
        envelope = EventEnvelope.model_validate_json(record.value)
        await _learn(connection, envelope, envelope.body())
        await connection.execute(
            "UPDATE invoker.channels SET version = $2 WHERE channel = $1", envelope.subject, envelope.sequence
        )


async def learn_signatures(connection: Connection, _: int, records: Sequence[Any]) -> None:
    """Keeps the encrypted secrets as they are; a tombstone deletes one."""
    gone = [record.key.decode() for record in records if record.value is None]
    latest = {record.key.decode(): record.value for record in records}
    kept = [(key, value) for key, value in latest.items() if value is not None]
    await connection.execute("DELETE FROM invoker.secrets WHERE record_key = ANY($1::text[])", gone)
    await connection.executemany(
        "INSERT INTO invoker.secrets VALUES ($1, $2) ON CONFLICT (record_key) DO UPDATE SET encrypted = $2", kept
    )


async def _learn(  # noqa: C901 -- one match over what matters here is the point
    connection: Connection, envelope: EventEnvelope, event: object
) -> None:
    channel = envelope.subject
    match event:
        case ChannelRegistered():
            await connection.execute(
                "INSERT INTO invoker.channels VALUES ($1, $2, false, 0) ON CONFLICT DO NOTHING",
                channel,
                envelope.accountid,
            )
        case ChannelRetired():
            await connection.execute("UPDATE invoker.channels SET retired = true WHERE channel = $1", channel)
            for table in ("business_systems", "signatures", "intents"):
                await connection.execute(f"DELETE FROM invoker.{table} WHERE channel = $1", channel)  # noqa: S608
            await _hurry(connection, channel, None)
        case BusinessSystemOpened():
            await connection.execute(
                "INSERT INTO invoker.business_systems VALUES ($1, $2, $3, $4)",
                channel,
                event.system,
                event.api_request_url,
                event.signature_style,
            )
            if event.signature is not None:
                await _drawn(connection, envelope, event.system, event.signature.key_id)
        case BusinessSystemEdited():
            await connection.execute(
                "UPDATE invoker.business_systems SET api_request_url = coalesce($3, api_request_url), "
                "signature_style = coalesce($4, signature_style) WHERE channel = $1 AND system = $2",
                channel,
                event.system,
                event.api_request_url,
                event.signature_style,
            )
        case BusinessSystemDeleted():
            for table in ("business_systems", "signatures", "intents"):
                await connection.execute(
                    f"DELETE FROM invoker.{table} WHERE channel = $1 AND system = $2",  # noqa: S608 -- our names
                    channel,
                    event.system,
                )
            await _hurry(connection, channel, event.system)
        case BusinessSystemDisabled() | BusinessSystemEnabled():
            await _switch(connection, channel, event)
        case SignatureRefreshed() | SignatureRevoked():
            await _learn_signature(connection, envelope, event)
        case IntentAdded() | IntentEdited():
            if event.default_data is not None:
                await connection.execute(
                    "INSERT INTO invoker.intents VALUES ($1, $2, $3, $4) "
                    "ON CONFLICT (channel, system, code) DO UPDATE SET default_data = $4",
                    channel,
                    event.system,
                    event.code,
                    compact_json(event.default_data),
                )
        case IntentDeleted():
            await connection.execute(
                "DELETE FROM invoker.intents WHERE channel = $1 AND system = $2 AND code = $3",
                channel,
                event.system,
                event.code,
            )
        case _:
            pass  # nothing that a call depends on


async def _learn_signature(
    connection: Connection, envelope: EventEnvelope, event: SignatureRefreshed | SignatureRevoked
) -> None:
    channel = envelope.subject
    if isinstance(event, SignatureRevoked):
        await connection.execute(
            "DELETE FROM invoker.signatures WHERE channel = $1 AND system = $2 AND key_id = $3",
            channel,
            event.system,
            event.key_id,
        )
    elif event.api_request_url is None:  # a draft belongs to no open system: BusinessSystemOpened brings it
        for old in event.replaced:
            await connection.execute(
                "UPDATE invoker.signatures SET valid_until = $4 WHERE channel = $1 AND system = $2 AND key_id = $3",
                channel,
                event.system,
                old.key_id,
                datetime.fromisoformat(old.valid_until),
            )
        await _drawn(connection, envelope, event.system, event.key_id)


async def _drawn(connection: Connection, envelope: EventEnvelope, system: str, key_id: str) -> None:
    await connection.execute(
        "INSERT INTO invoker.signatures VALUES ($1, $2, $3, $4)", envelope.subject, system, key_id, envelope.sequence
    )


async def _switch(connection: Connection, channel: str, event: BusinessSystemDisabled | BusinessSystemEnabled) -> None:
    disabled = isinstance(event, BusinessSystemDisabled)
    await connection.execute(
        "UPDATE invoker.business_systems SET disabled = $3 WHERE channel = $1 AND system = $2",
        channel,
        event.system,
        disabled,
    )
    if not disabled:
        await connection.execute(
            "UPDATE invoker.deliveries SET state = 'due', due_at = now() "
            "WHERE channel = $1 AND system = $2 AND state = 'parked'",
            channel,
            event.system,
        )


async def _hurry(connection: Connection, channel: str, system: str | None) -> None:
    """What waits for a system that is gone ends now, not at its next retry."""
    await connection.execute(
        "UPDATE invoker.deliveries SET state = 'due', due_at = now() "
        "WHERE channel = $1 AND ($2::text IS NULL OR system = $2) AND state IN ('due', 'parked')",
        channel,
        system,
    )


@dataclass(frozen=True, slots=True)
class LiveSignature:
    """A signature that is valid now, opened for the length of one call."""

    key_id: str
    secret: bytes

    def __repr__(self) -> str:
        return f"LiveSignature({self.key_id!r})"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where and how to call a business system now; the newest signature first."""

    api_request_url: str
    signature_style: SignatureStyle
    disabled: bool
    signatures: tuple[LiveSignature, ...]


@dataclass(frozen=True, slots=True)
class Gone:
    """There is nothing to call any more; ``reason`` is a stable name, ``message`` a sentence."""

    reason: str
    message: str


class SecretsNotHereYet(Exception):
    """The event of a signature came before its secret, on another topic: look again in a moment."""


async def endpoint_of(connection: Connection, keyring: KeyRing, channel: str, system: str) -> Endpoint | Gone:
    """What an attempt needs, as of now. Raises `SecretsNotHereYet` and `VaultError`."""
    row = await connection.fetchrow(
        "SELECT c.retired, s.* FROM invoker.channels c "
        "LEFT JOIN invoker.business_systems s ON s.channel = c.channel AND s.system = $2 WHERE c.channel = $1",
        channel,
        system,
    )
    if row is None or row["retired"]:
        return Gone("ChannelIsRetired", f"Channel {channel!r} is retired.")
    if row["system"] is None:
        return Gone("BusinessSystemUnknown", f"Business system {system!r} was deleted.")
    keys = await connection.fetch(
        "SELECT k.key_id, s.encrypted FROM invoker.signatures k LEFT JOIN invoker.secrets s "
        "ON s.record_key = k.channel || '/' || k.system || '/' || k.key_id "
        "WHERE k.channel = $1 AND k.system = $2 AND (k.valid_until IS NULL OR k.valid_until > now()) "
        "ORDER BY k.drawn DESC",
        channel,
        system,
    )
    if not keys or any(key["encrypted"] is None for key in keys):
        raise SecretsNotHereYet
    signatures = tuple(
        LiveSignature(
            key["key_id"], keyring.decrypt(key["encrypted"], SignatureAddress(channel, system, key["key_id"]))
        )
        for key in keys
    )
    return Endpoint(row["api_request_url"], row["signature_style"], row["disabled"], signatures)

"""What the invoker knows of settings: tables of its own, fed from the events and the encrypted signatures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
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
from services.infrastructure.vault import KeyRing, SignatureAddress, VaultError
from services.invoker import queue

_VERSIONS = """
    UPDATE invoker.channels c SET version = w.version
    FROM unnest($1::text[], $2::bigint[]) AS w(channel, version) WHERE c.channel = w.channel
"""

_OF_A_SYSTEM = ("business_systems", "signatures", "intents", "circuits")
CHANNEL_IS_RETIRED = "ChannelIsRetired"
SYSTEM_DELETED = "BusinessSystemUnknown"


async def learn_events(connection: Connection, _: int, records: Sequence[Any]) -> None:
    """Applies a batch of one partition's events."""
    versions: dict[str, int] = {}
    for record in records:
        envelope = EventEnvelope.model_validate_json(record.value)
        await _learn(connection, envelope, envelope.body())
        versions[envelope.subject] = envelope.sequence
    await connection.execute(_VERSIONS, list(versions), list(versions.values()))


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
            await queue.doom(connection, channel, None, CHANNEL_IS_RETIRED)
            for table in _OF_A_SYSTEM:
                await connection.execute(f"DELETE FROM invoker.{table} WHERE channel = $1", channel)  # noqa: S608
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
            await _close_circuit(connection, channel, event.system)  # whatever failed may be put right
        case BusinessSystemDeleted():
            await queue.doom(connection, channel, event.system, SYSTEM_DELETED)
            for table in _OF_A_SYSTEM:
                await connection.execute(
                    f"DELETE FROM invoker.{table} WHERE channel = $1 AND system = $2",  # noqa: S608 -- our names
                    channel,
                    event.system,
                )
        case BusinessSystemDisabled() | BusinessSystemEnabled():
            await _switch(connection, channel, event)
        case SignatureRefreshed() | SignatureRevoked():
            await _learn_signature(connection, envelope, event)
        case IntentAdded() | IntentEdited():
            await _learn_intent(connection, channel, event)
        case IntentDeleted():
            await connection.execute(
                "DELETE FROM invoker.intents WHERE channel = $1 AND system = $2 AND code = $3",
                channel,
                event.system,
                event.code,
            )
        case _:
            pass  # nothing that a call depends on


async def _learn_intent(connection: Connection, channel: str, event: IntentAdded | IntentEdited) -> None:
    schema = None if event.json_schema is None else compact_json(event.json_schema)
    about = channel, event.system, event.code
    if isinstance(event, IntentAdded):
        data = compact_json(event.default_data)
        await connection.execute("INSERT INTO invoker.intents VALUES ($1, $2, $3, $4, $5)", *about, data, schema)
        return
    if event.default_data is not None:
        await connection.execute(
            "UPDATE invoker.intents SET default_data = $4 WHERE channel = $1 AND system = $2 AND code = $3",
            *about,
            compact_json(event.default_data),
        )
    if "json_schema" in event.model_fields_set:
        await connection.execute(
            "UPDATE invoker.intents SET schema = $4 WHERE channel = $1 AND system = $2 AND code = $3", *about, schema
        )


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
    """What waits for a disabled system is parked, and goes on, with a closed circuit, when it is enabled."""
    disabled = isinstance(event, BusinessSystemDisabled)
    await connection.execute(
        "UPDATE invoker.business_systems SET disabled = $3 WHERE channel = $1 AND system = $2",
        channel,
        event.system,
        disabled,
    )
    if disabled:
        await queue.park(connection, channel, event.system)
    else:
        await _close_circuit(connection, channel, event.system)
        await queue.hurry(connection, channel, event.system)


async def _close_circuit(connection: Connection, channel: str, system: str) -> None:
    await connection.execute("DELETE FROM invoker.circuits WHERE channel = $1 AND system = $2", channel, system)


@dataclass(frozen=True, slots=True)
class LiveSignature:
    key_id: str
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a system is called, and every signature that is valid now, newest first."""

    api_request_url: str
    signature_style: SignatureStyle
    disabled: bool
    signatures: tuple[LiveSignature, ...]

    def alone(self, key_id: str) -> Endpoint | Gone:
        """The same with one signature only."""
        found = tuple(one for one in self.signatures if one.key_id == key_id)
        if not found:
            return Gone("SignatureUnknown", f"Signature {key_id!r} is not, or no more, valid.")
        return replace(self, signatures=found)


@dataclass(frozen=True, slots=True)
class Gone:
    """There is nothing to call any more; ``reason`` is a stable name, ``message`` a sentence."""

    reason: str
    message: str


def gone(reason: str, row: Any) -> Gone:
    """Why a row's ``channel`` and ``system`` are not called any more."""
    if reason == CHANNEL_IS_RETIRED:
        return Gone(reason, f"Channel {row['channel']!r} is retired.")
    return Gone(reason, f"Business system {row['system']!r} was deleted.")


@dataclass(frozen=True, slots=True)
class NotReadable:
    """Its signatures are not here yet (they come on another topic than their events), or cannot be opened."""

    why: str | None = None
    """The sentence for the log, where it is more than a matter of a moment."""


Known = Endpoint | Gone | NotReadable
SystemKey = tuple[str, str]
"""Channel and system."""

_SYSTEMS = """
    SELECT w.channel, w.system, coalesce(c.retired, true) AS retired, s.system IS NOT NULL AS open,
        s.api_request_url, s.signature_style, s.disabled
    FROM unnest($1::text[], $2::text[]) AS w(channel, system)
    LEFT JOIN invoker.channels c ON c.channel = w.channel
    LEFT JOIN invoker.business_systems s ON s.channel = w.channel AND s.system = w.system
"""
_KEYS = """
    SELECT k.channel, k.system, k.key_id, s.encrypted
    FROM unnest($1::text[], $2::text[]) AS w(channel, system)
    JOIN invoker.signatures k ON k.channel = w.channel AND k.system = w.system
    LEFT JOIN invoker.secrets s ON s.record_key = k.channel || '/' || k.system || '/' || k.key_id
    WHERE k.valid_until IS NULL OR k.valid_until > now()
    ORDER BY k.drawn DESC
"""


async def endpoints_of(connection: Connection, keyring: KeyRing, keys: Collection[SystemKey]) -> dict[SystemKey, Known]:
    """What attempts at these systems need, as of now."""
    wanted = [channel for channel, _ in keys], [system for _, system in keys]
    signatures: dict[SystemKey, list[Any]] = defaultdict(list)
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        systems = await connection.fetch(_SYSTEMS, *wanted)
        for key in await connection.fetch(_KEYS, *wanted):
            signatures[key["channel"], key["system"]].append(key)
    return {
        (row["channel"], row["system"]): _endpoint(row, signatures[row["channel"], row["system"]], keyring)
        for row in systems
    }


def _endpoint(row: Any, keys: list[Any], keyring: KeyRing) -> Known:
    if row["retired"]:
        return gone(CHANNEL_IS_RETIRED, row)
    if not row["open"]:
        return gone(SYSTEM_DELETED, row)
    if not keys or any(key["encrypted"] is None for key in keys):
        return NotReadable()
    try:
        signatures = tuple(
            LiveSignature(
                key["key_id"],
                keyring.decrypt(key["encrypted"], SignatureAddress(row["channel"], row["system"], key["key_id"])),
            )
            for key in keys
        )
    except VaultError as error:
        return NotReadable(str(error))
    except ValueError:
        return NotReadable(f"A signature of {row['channel']}/{row['system']} is kept in a form that cannot be read.")
    return Endpoint(row["api_request_url"], row["signature_style"], row["disabled"], signatures)

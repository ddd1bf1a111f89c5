"""The invoker's replica of the settings: tables of its own, built from the events and the encrypted signatures."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from contracts.bounded_json import compact_json
from contracts.business_system import (
    BusinessSystemDeleted,
    BusinessSystemDisabled,
    BusinessSystemEdited,
    BusinessSystemEnabled,
    BusinessSystemOpened,
)
from contracts.channel import ChannelRegistered, ChannelRetired
from contracts.envelope import EventEnvelope
from contracts.intent import IntentAdded, IntentDeleted, IntentEdited
from contracts.signature import SignatureRefreshed, SignatureRevoked
from services.infrastructure.postgres import Connection
from services.invoker.queue import scheduling
from services.invoker.settings_replica.endpoint import CHANNEL_IS_RETIRED, SYSTEM_DELETED

_UPDATE_VERSIONS = """
    UPDATE invoker.channels c SET version = w.version
    FROM unnest($1::text[], $2::bigint[]) AS w(channel, version) WHERE c.channel = w.channel
"""

_TABLES_OF_SYSTEMS = ("business_systems", "signatures", "intents", "circuits")


async def apply_events(connection: Connection, _: int, records: Sequence[Any]) -> None:
    """Applies a batch of events of one partition."""
    versions: dict[str, int] = {}
    for record in records:
        envelope = EventEnvelope.model_validate_json(record.value)
        await _apply(connection, envelope, envelope.body())
        versions[envelope.subject] = envelope.sequence
    await connection.execute(_UPDATE_VERSIONS, list(versions), list(versions.values()))


async def apply_signatures(connection: Connection, _: int, records: Sequence[Any]) -> None:
    """Stores the secrets as they are, encrypted; a tombstone deletes one."""
    deleted = [record.key.decode() for record in records if record.value is None]
    latest = {record.key.decode(): record.value for record in records}
    upserts = [(key, value) for key, value in latest.items() if value is not None]
    await connection.execute("DELETE FROM invoker.secrets WHERE record_key = ANY($1::text[])", deleted)
    await connection.executemany(
        "INSERT INTO invoker.secrets VALUES ($1, $2) ON CONFLICT (record_key) DO UPDATE SET encrypted = $2", upserts
    )


async def _apply(  # noqa: C901 -- one match over all events that matter here
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
            await scheduling.fail_all(connection, channel, None, CHANNEL_IS_RETIRED)
            for table in _TABLES_OF_SYSTEMS:
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
                await _insert_signature(connection, envelope, event.system, event.signature.key_id)
        case BusinessSystemEdited():
            await connection.execute(
                "UPDATE invoker.business_systems SET api_request_url = coalesce($3, api_request_url), "
                "verified_at = CASE WHEN coalesce($3, api_request_url) = api_request_url THEN verified_at END, "
                "next_call_at = NULL, "
                "signature_style = coalesce($4, signature_style) WHERE channel = $1 AND system = $2",
                channel,
                event.system,
                event.api_request_url,
                event.signature_style,
            )
            await _close_circuit(connection, channel, event.system)  # the edit may repair what failed
        case BusinessSystemDeleted():
            await scheduling.fail_all(connection, channel, event.system, SYSTEM_DELETED)
            for table in _TABLES_OF_SYSTEMS:
                await connection.execute(
                    f"DELETE FROM invoker.{table} WHERE channel = $1 AND system = $2",  # noqa: S608 -- a constant of ours
                    channel,
                    event.system,
                )
        case BusinessSystemDisabled() | BusinessSystemEnabled():
            await _set_disabled(connection, channel, event)
        case SignatureRefreshed() | SignatureRevoked():
            await _apply_signature(connection, envelope, event)
        case IntentAdded() | IntentEdited():
            await _apply_intent(connection, channel, event)
        case IntentDeleted():
            await connection.execute(
                "DELETE FROM invoker.intents WHERE channel = $1 AND system = $2 AND code = $3",
                channel,
                event.system,
                event.code,
            )
        case _:
            pass  # no call depends on it


async def _apply_intent(connection: Connection, channel: str, event: IntentAdded | IntentEdited) -> None:
    schema = None if event.json_schema is None else compact_json(event.json_schema)
    key = channel, event.system, event.code
    if isinstance(event, IntentAdded):
        data = compact_json(event.default_data)
        await connection.execute("INSERT INTO invoker.intents VALUES ($1, $2, $3, $4, $5)", *key, data, schema)
        return
    if event.default_data is not None:
        await connection.execute(
            "UPDATE invoker.intents SET default_data = $4 WHERE channel = $1 AND system = $2 AND code = $3",
            *key,
            compact_json(event.default_data),
        )
    if "json_schema" in event.model_fields_set:
        await connection.execute(
            "UPDATE invoker.intents SET schema = $4 WHERE channel = $1 AND system = $2 AND code = $3", *key, schema
        )


async def _apply_signature(
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
        await _insert_signature(connection, envelope, event.system, event.key_id)


async def _insert_signature(connection: Connection, envelope: EventEnvelope, system: str, key_id: str) -> None:
    await connection.execute(
        "INSERT INTO invoker.signatures VALUES ($1, $2, $3, $4)", envelope.subject, system, key_id, envelope.sequence
    )


async def _set_disabled(
    connection: Connection, channel: str, event: BusinessSystemDisabled | BusinessSystemEnabled
) -> None:
    """Parks the deliveries of a disabled system; makes them due, with a closed circuit, when it is enabled."""
    disabled = isinstance(event, BusinessSystemDisabled)
    await connection.execute(
        "UPDATE invoker.business_systems SET disabled = $3 WHERE channel = $1 AND system = $2",
        channel,
        event.system,
        disabled,
    )
    if disabled:
        await scheduling.park(connection, channel, event.system)
    else:
        await _close_circuit(connection, channel, event.system)
        await scheduling.make_due(connection, channel, event.system)


async def _close_circuit(connection: Connection, channel: str, system: str) -> None:
    await connection.execute("DELETE FROM invoker.circuits WHERE channel = $1 AND system = $2", channel, system)

"""What the invoker knows of settings: tables of its own, fed from the events and the encrypted signatures."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

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
from contracts.message import compact_json
from contracts.signature import SignatureRefreshed, SignatureRevoked
from services.infrastructure.postgres import Connection
from services.invoker import queue
from services.invoker.endpoints import CHANNEL_IS_RETIRED, SYSTEM_DELETED

_VERSIONS = """
    UPDATE invoker.channels c SET version = w.version
    FROM unnest($1::text[], $2::bigint[]) AS w(channel, version) WHERE c.channel = w.channel
"""

_OF_A_SYSTEM = ("business_systems", "signatures", "intents", "circuits")


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

"""Endpoints as the settings replica has them now, cached by the channel's version."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from services.infrastructure.postgres import Connection
from services.infrastructure.vault import KeyRing, SignatureAddress, VaultError
from services.invoker.queue.delivery import SystemKey
from services.invoker.settings_replica.endpoint import (
    CHANNEL_IS_RETIRED,
    SYSTEM_DELETED,
    Endpoint,
    EndpointLookup,
    EndpointNotReady,
    LiveSignature,
    no_endpoint,
)

_MAX_CACHED = 10_000
_SELECT_VERSIONS = "SELECT channel, version FROM invoker.channels WHERE channel = ANY($1::text[])"
_SELECT_SYSTEMS = """
    SELECT w.channel, w.system, coalesce(c.retired, true) AS retired, c.version, c.account,
        s.system IS NOT NULL AS open, s.api_request_url, s.signature_style, s.disabled
    FROM unnest($1::text[], $2::text[]) AS w(channel, system)
    LEFT JOIN invoker.channels c ON c.channel = w.channel
    LEFT JOIN invoker.business_systems s ON s.channel = w.channel AND s.system = w.system
"""
_SELECT_SIGNATURES = """
    SELECT k.channel, k.system, k.key_id, k.valid_until, s.encrypted
    FROM unnest($1::text[], $2::text[]) AS w(channel, system)
    JOIN invoker.signatures k ON k.channel = w.channel AND k.system = w.system
    LEFT JOIN invoker.secrets s ON s.record_key = k.channel || '/' || k.system || '/' || k.key_id
    WHERE k.valid_until IS NULL OR k.valid_until > now()
    ORDER BY k.issued_at_version DESC
"""


class EndpointCache:
    """An entry is valid while its channel has the version at which it was read."""

    def __init__(self, keyring: KeyRing) -> None:
        self._keyring = keyring
        self._cached: dict[SystemKey, tuple[int, Endpoint]] = {}

    async def load(self, connection: Connection, keys: Collection[SystemKey]) -> dict[SystemKey, EndpointLookup]:
        channels = list({channel for channel, _ in keys})
        versions = dict(await connection.fetch(_SELECT_VERSIONS, channels))
        now = datetime.now(UTC)
        found: dict[SystemKey, EndpointLookup] = {}
        for key in keys:
            version, endpoint = self._cached.get(key, (None, None))
            if endpoint is not None and version == versions.get(key[0]):
                found[key] = endpoint.valid_at(now)
        return found | await self._read(connection, [key for key in keys if key not in found])

    async def _read(self, connection: Connection, keys: Collection[SystemKey]) -> dict[SystemKey, EndpointLookup]:
        if not keys:
            return {}
        columns = [channel for channel, _ in keys], [system for _, system in keys]
        signatures: dict[SystemKey, list[Any]] = defaultdict(list)
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            systems = await connection.fetch(_SELECT_SYSTEMS, *columns)
            for row in await connection.fetch(_SELECT_SIGNATURES, *columns):
                signatures[row["channel"], row["system"]].append(row)
        if len(self._cached) > _MAX_CACHED:
            self._cached.clear()
        found: dict[SystemKey, EndpointLookup] = {}
        for row in systems:
            key = row["channel"], row["system"]
            endpoint = found[key] = _endpoint(row, signatures[key], self._keyring)
            self._cached.pop(key, None)
            if isinstance(endpoint, Endpoint):
                self._cached[key] = row["version"], endpoint
        return found


def _endpoint(system: Any, signatures: list[Any], keyring: KeyRing) -> EndpointLookup:
    channel, name = system["channel"], system["system"]
    if system["retired"]:
        return no_endpoint(CHANNEL_IS_RETIRED, channel, name)
    if not system["open"]:
        return no_endpoint(SYSTEM_DELETED, channel, name)
    if not signatures or any(row["encrypted"] is None for row in signatures):
        return EndpointNotReady()
    try:
        live = tuple(
            LiveSignature(
                row["key_id"],
                keyring.decrypt(row["encrypted"], SignatureAddress(channel, name, row["key_id"])),
                row["valid_until"],
            )
            for row in signatures
        )
    except VaultError as error:
        return EndpointNotReady(str(error))
    except ValueError:
        return EndpointNotReady(f"A signature of {channel}/{name} is stored in a form that cannot be read.")
    return Endpoint(system["account"], system["api_request_url"], system["signature_style"], system["disabled"], live)

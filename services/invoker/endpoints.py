"""Where a system is called and with which signatures, as the tables of what is known have it just now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from contracts.business_system import SignatureStyle
from services.infrastructure.postgres import Connection
from services.infrastructure.vault import KeyRing, SignatureAddress, VaultError

CHANNEL_IS_RETIRED = "ChannelIsRetired"
SYSTEM_DELETED = "BusinessSystemUnknown"


@dataclass(frozen=True, slots=True)
class LiveSignature:
    """``valid_until`` is None for the newest one."""

    key_id: str
    secret: bytes = field(repr=False)
    valid_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a system is called, and every signature that is valid now, newest first."""

    api_request_url: str
    signature_style: SignatureStyle
    disabled: bool
    signatures: tuple[LiveSignature, ...]

    def at(self, now: datetime) -> Endpoint:
        """The same with the signatures that are valid at that moment."""
        if all(one.valid_until is None or one.valid_until > now for one in self.signatures):
            return self
        valid = tuple(one for one in self.signatures if one.valid_until is None or one.valid_until > now)
        return replace(self, signatures=valid)

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

_REMEMBERED = 10_000
_VERSIONS = "SELECT channel, version FROM invoker.channels WHERE channel = ANY($1::text[])"
_SYSTEMS = """
    SELECT w.channel, w.system, coalesce(c.retired, true) AS retired, c.version, s.system IS NOT NULL AS open,
        s.api_request_url, s.signature_style, s.disabled
    FROM unnest($1::text[], $2::text[]) AS w(channel, system)
    LEFT JOIN invoker.channels c ON c.channel = w.channel
    LEFT JOIN invoker.business_systems s ON s.channel = w.channel AND s.system = w.system
"""
_KEYS = """
    SELECT k.channel, k.system, k.key_id, k.valid_until, s.encrypted
    FROM unnest($1::text[], $2::text[]) AS w(channel, system)
    JOIN invoker.signatures k ON k.channel = w.channel AND k.system = w.system
    LEFT JOIN invoker.secrets s ON s.record_key = k.channel || '/' || k.system || '/' || k.key_id
    WHERE k.valid_until IS NULL OR k.valid_until > now()
    ORDER BY k.drawn DESC
"""


class Endpoints:
    """What attempts need, as of now. A system is read anew once anything of its channel has changed."""

    def __init__(self, keyring: KeyRing) -> None:
        self._keyring = keyring
        self._read: dict[SystemKey, tuple[int, Endpoint]] = {}

    async def of(self, connection: Connection, keys: Collection[SystemKey]) -> dict[SystemKey, Known]:
        channels = list({channel for channel, _ in keys})
        versions = dict(await connection.fetch(_VERSIONS, channels))
        found: dict[SystemKey, Known] = {}
        for key in keys:
            version, known = self._read.get(key, (None, None))
            if known is not None and version == versions.get(key[0]):
                found[key] = known.at(datetime.now(UTC))
        return found | await self._read_anew(connection, [key for key in keys if key not in found])

    async def _read_anew(self, connection: Connection, keys: Collection[SystemKey]) -> dict[SystemKey, Known]:
        if not keys:
            return {}
        wanted = [channel for channel, _ in keys], [system for _, system in keys]
        signatures: dict[SystemKey, list[Any]] = defaultdict(list)
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            systems = await connection.fetch(_SYSTEMS, *wanted)
            for key in await connection.fetch(_KEYS, *wanted):
                signatures[key["channel"], key["system"]].append(key)
        if len(self._read) > _REMEMBERED:
            self._read.clear()
        found: dict[SystemKey, Known] = {}
        for row in systems:
            name = row["channel"], row["system"]
            known = found[name] = _endpoint(row, signatures[name], self._keyring)
            self._read.pop(name, None)
            if isinstance(known, Endpoint):
                self._read[name] = row["version"], known
        return found


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
                key["valid_until"],
            )
            for key in keys
        )
    except VaultError as error:
        return NotReadable(str(error))
    except ValueError:
        return NotReadable(f"A signature of {row['channel']}/{row['system']} is kept in a form that cannot be read.")
    return Endpoint(row["api_request_url"], row["signature_style"], row["disabled"], signatures)

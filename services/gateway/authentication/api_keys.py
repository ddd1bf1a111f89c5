"""API keys: shown once, stored as a hash, revoked by id."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Any

from contracts.access_log import ApiKeyCreated, ApiKeyRevoked, ApiKeyRotated
from contracts.message import rfc3339
from services.gateway.authentication.access_log import Concerned, record
from services.gateway.authentication.actor import COMMAND_LINE, Actor
from services.gateway.authentication.api_key_limit import require_room
from services.gateway.authentication.principal import Principal
from services.gateway.authentication.roles import ALL_ROLES, PLATFORM, Role, Scope
from services.infrastructure.postgres import Connection, Pool

MIGRATIONS = Path(__file__).with_name("migrations")
_TOKEN = re.compile(r"sb_(?P<key_id>[a-z0-9]{8})_[A-Za-z0-9_-]{43}")
_WITHIN = (
    "($1::text IS NULL OR account = $1) AND ($2::text IS NULL OR channel = $2) AND ($3::text IS NULL OR provider = $3)"
)
_VALID = "revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())"
_USED = "UPDATE gateway.api_keys SET last_used_at = date_trunc('hour', now(), 'UTC') WHERE key_id = $1"
_INSERT = """
    INSERT INTO gateway.api_keys (key_id, token_sha256, roles, scope, account, channel, provider, label, networks,
        expires_at, created_by, replaces, owner)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) RETURNING *
"""

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without its token. It is valid from ``networks`` only, if there are any; ``last_used_at`` is a full hour.

    ``created_by`` is the actor who made it; None is the command line. ``replaces`` is the key that it was rotated from.
    ``owner`` is the person that it belongs to; None where it is a person of its own.
    """

    key_id: str
    roles: frozenset[Role]
    scope: Scope
    label: str
    created_at: datetime
    created_by: str | None
    replaces: str | None
    expires_at: datetime | None
    networks: tuple[Network, ...]
    last_used_at: datetime | None
    revoked_at: datetime | None
    owner: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "key_id": self.key_id,
            "label": self.label,
            "owner": self.owner,
            "roles": sorted(self.roles),
            "scope": self.scope.kind,
            "account": self.scope.account,
            "channel": self.scope.channel,
            "provider": self.scope.provider,
            "networks": [str(network) for network in self.networks],
            "created_at": _instant(self.created_at),
            "created_by": self.created_by,
            "replaces": self.replaces,
            "expires_at": _instant(self.expires_at),
            "last_used_at": _instant(self.last_used_at),
            "revoked_at": _instant(self.revoked_at),
        }

    def allows(self, address: str | None) -> bool:
        """Whether the key is valid from the client's address."""
        return not self.networks or _is_within(address, self.networks)

    @property
    def principal(self) -> Principal:
        subject = f"api-key:{self.key_id}"
        return Principal(subject, self.label, self.roles, self.scope, key_id=self.key_id, owner=self.owner)


async def create(
    pool: Pool,
    *,
    label: str,
    scope: Scope,
    roles: frozenset[Role] = ALL_ROLES,
    networks: tuple[Network, ...] = (),
    expires_at: datetime | None = None,
    owner: str | None = None,
    by: Actor = COMMAND_LINE,
    limited: bool = False,
) -> str:
    """Creates a key and returns its token, which cannot be shown again. The access log has it with the key, or not.

    Raises `TooManyKeys` if it is ``limited``, as for everybody but the operator.
    """
    async with pool.acquire() as connection, connection.transaction():
        if limited:
            await require_room(connection, scope)
        key, token = await _insert(
            connection, by, label=label, scope=scope, roles=roles, networks=networks, expires_at=expires_at, owner=owner
        )
        await record(connection, ApiKeyCreated(**_facts(key)), Concerned.of(scope), by)
    return token


async def _insert(
    connection: Connection,
    by: Actor,
    *,
    label: str,
    scope: Scope,
    roles: frozenset[Role],
    networks: tuple[Network, ...],
    expires_at: datetime | None,
    owner: str | None,
    replaces: str | None = None,
) -> tuple[ApiKey, str]:
    """Returns the new key and its token."""
    key_id = secrets.token_hex(4)
    token = f"sb_{key_id}_{secrets.token_urlsafe(32)}"
    row = await connection.fetchrow(
        _INSERT,
        key_id,
        hashlib.sha256(token.encode()).digest(),
        sorted(roles),
        scope.kind,
        *_fields(scope),
        label,
        networks,
        expires_at,
        by.subject,
        replaces,
        owner,
    )
    return _from_row(row), token


def _facts(key: ApiKey) -> dict[str, Any]:
    """What the access log says of a new key."""
    return {name: value for name, value in key.as_json().items() if name in ApiKeyCreated.model_fields}


def key_id_of(token: str) -> str:
    """Returns the id of a key from its token, or an empty string if it is no token."""
    form = _TOKEN.fullmatch(token)
    return "" if form is None else form["key_id"]


async def list_keys(pool: Pool, within: Scope = PLATFORM) -> list[ApiKey]:
    """Returns the keys of that scope and of scopes inside it, the newest 1,000, revoked and expired ones included."""
    query = f"SELECT * FROM gateway.api_keys WHERE {_WITHIN} ORDER BY created_at DESC, key_id LIMIT 1000"  # noqa: S608
    return [_from_row(row) for row in await pool.fetch(query, *_fields(within))]


async def find(pool: Pool | Connection, key_id: str, within: Scope = PLATFORM) -> ApiKey | None:
    query = f"SELECT * FROM gateway.api_keys WHERE {_WITHIN} AND key_id = $4"  # noqa: S608
    row = await pool.fetchrow(query, *_fields(within), key_id)
    return None if row is None else _from_row(row)


async def rotate(
    pool: Pool,
    old: ApiKey,
    *,
    overlap: timedelta,
    expires_at: datetime | None,
    by: Actor = COMMAND_LINE,
    limited: bool = False,
) -> str | None:
    """Creates a key that may do the same, and lets the old one expire after ``overlap``. Returns the new token.

    Returns None if the old key is not valid any more. It never lives longer than it would have. Raises `TooManyKeys` as
    `create` does.
    """
    async with pool.acquire() as connection, connection.transaction():
        until = await connection.fetchval(
            "UPDATE gateway.api_keys SET expires_at = least(expires_at, now() + $2) WHERE key_id = $1 "
            "AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now()) RETURNING expires_at",
            old.key_id,
            overlap,
        )
        if until is None:
            return None
        if limited:
            await require_room(connection, old.scope)
        new, token = await _insert(
            connection,
            by,
            label=old.label,
            scope=old.scope,
            roles=old.roles,
            networks=old.networks,
            expires_at=expires_at,
            owner=old.principal.person,
            replaces=old.key_id,
        )
        data = ApiKeyRotated(**_facts(new), replaces=old.key_id, replaced_until=_instant(until))
        await record(connection, data, Concerned.of(old.scope), by)
    return token


async def revoke(pool: Pool, key_id: str, within: Scope = PLATFORM, by: Actor = COMMAND_LINE) -> ApiKey | None:
    """Revokes a key, now or once. Returns it; None if that scope has no such key."""
    async with pool.acquire() as connection, connection.transaction():
        row = await connection.fetchrow(
            f"UPDATE gateway.api_keys SET revoked_at = now() WHERE {_WITHIN} AND key_id = $4 "  # noqa: S608
            "AND revoked_at IS NULL RETURNING *",
            *_fields(within),
            key_id,
        )
        if row is None:
            return await find(connection, key_id, within)
        key = _from_row(row)
        await record(connection, ApiKeyRevoked(key_id=key_id, label=key.label), Concerned.of(key.scope), by)
    return key


async def find_among(pool: Pool, key_ids: list[str]) -> dict[str, ApiKey]:
    """Returns the keys by id, revoked and expired ones included."""
    rows = await pool.fetch("SELECT * FROM gateway.api_keys WHERE key_id = ANY($1::text[])", key_ids)
    return {row["key_id"]: _from_row(row) for row in rows}


async def find_active(pool: Pool, key_id: str) -> ApiKey | None:
    """Returns the key of that id; None if there is none, or it is not valid now."""
    row = await pool.fetchrow(f"SELECT * FROM gateway.api_keys WHERE key_id = $1 AND {_VALID}", key_id)  # noqa: S608
    return None if row is None else _from_row(row)


async def find_valid(pool: Pool, key_ids: list[str]) -> dict[str, tuple[bytes, ApiKey]]:
    """Returns those of the keys that are valid now, by id, each after the SHA-256 of its token."""
    query = f"SELECT * FROM gateway.api_keys WHERE key_id = ANY($1::text[]) AND {_VALID}"  # noqa: S608 -- our words
    return {row["key_id"]: (row["token_sha256"], _from_row(row)) for row in await pool.fetch(query, key_ids)}


async def note_use(pool: Pool, key_id: str) -> None:
    await pool.execute(_USED, key_id)


async def invalid_among(pool: Pool, key_ids: list[str]) -> list[str]:
    """Returns those of the keys that are revoked or have expired."""
    query = (
        "SELECT key_id FROM gateway.api_keys WHERE key_id = ANY($1::text[]) "
        "AND (revoked_at IS NOT NULL OR expires_at <= now())"
    )
    return [row["key_id"] for row in await pool.fetch(query, key_ids)]


def _fields(scope: Scope) -> tuple[str | None, str | None, str | None]:
    return scope.account, scope.channel, scope.provider


def _instant(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(round(moment.timestamp() * 1000))


def _is_within(address: str | None, networks: tuple[Network, ...]) -> bool:
    try:
        client = ip_address(address or "")
    except ValueError:
        return False
    client = getattr(client, "ipv4_mapped", None) or client  # of a socket that takes both
    return any(client in network for network in networks)


def _from_row(row: Any) -> ApiKey:
    return ApiKey(
        row["key_id"],
        frozenset(map(Role, row["roles"])),
        Scope(row["account"], row["channel"], row["provider"]),
        row["label"],
        row["created_at"],
        row["created_by"],
        row["replaces"],
        row["expires_at"],
        tuple(row["networks"]),
        row["last_used_at"],
        row["revoked_at"],
        row["owner"],
    )

"""API keys: shown once, kept as a hash, revoked by name."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from services.infrastructure.postgres import Pool

Role = Literal["platform", "account"]

MIGRATIONS = Path(__file__).with_name("migrations")
_TOKEN = re.compile(r"sb_(?P<key_id>[a-z0-9]{8})_[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Access:
    """Who a request comes from. The platform may act for any account, and it alone registers channels."""

    key_id: str
    role: Role
    account: str | None
    label: str


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is listed."""

    access: Access
    created_at: datetime
    revoked_at: datetime | None


async def create(pool: Pool, *, role: Role, account: str | None, label: str) -> str:
    """Makes a key and returns its token, which nobody can show again."""
    key_id = secrets.token_hex(4)
    token = f"sb_{key_id}_{secrets.token_urlsafe(32)}"
    await pool.execute(
        "INSERT INTO gateway.api_keys (key_id, token_sha256, role, account, label) VALUES ($1, $2, $3, $4, $5)",
        key_id,
        hashlib.sha256(token.encode()).digest(),
        role,
        account,
        label,
    )
    return token


async def list_keys(pool: Pool) -> list[ApiKey]:
    rows = await pool.fetch("SELECT * FROM gateway.api_keys ORDER BY created_at")
    return [
        ApiKey(Access(row["key_id"], row["role"], row["account"], row["label"]), row["created_at"], row["revoked_at"])
        for row in rows
    ]


async def revoke(pool: Pool, key_id: str) -> bool:
    """Whether there was such a key that was not revoked yet."""
    changed = await pool.fetchval(
        "UPDATE gateway.api_keys SET revoked_at = now() WHERE key_id = $1 AND revoked_at IS NULL RETURNING 1", key_id
    )
    return changed is not None


async def access_of(pool: Pool, token: str) -> Access | None:
    """Whom the token stands for; None for one that was never made, or is revoked."""
    form = _TOKEN.fullmatch(token)
    if form is None:
        return None
    row = await pool.fetchrow("SELECT * FROM gateway.api_keys WHERE key_id = $1 AND revoked_at IS NULL", form["key_id"])
    digest = hashlib.sha256(token.encode()).digest()
    if row is None or not hmac.compare_digest(row["token_sha256"], digest):
        return None
    return Access(row["key_id"], row["role"], row["account"], row["label"])

"""Sessions of the console: a cookie stands for an API key, or for a person whom an issuer has logged on.

The cookie's token is stored as a hash, like the token of a key. A session ends by log-off, after `IDLE`, after
`LONGEST`, for a newer one where its owner has `PER_OWNER`, and with its key, or once the configuration grants the
person nothing any more.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from services.gateway.authentication.api_keys import ApiKey, find_active
from services.gateway.authentication.oidc.tokens import Claims, TrustedIssuers
from services.gateway.authentication.principal import Principal
from services.infrastructure.postgres import Pool

MIGRATIONS = Path(__file__).with_name("session_migrations")
IDLE = timedelta(hours=1)
LONGEST = timedelta(hours=12)
PER_OWNER = 50
"""Sessions of a person or API key at a time. A new one ends that which was used the longest ago."""

_START = "INSERT INTO console.sessions (token_sha256, key_id, subject, claims) VALUES ($1, $2, $3, $4)"
_CLEAN = "DELETE FROM console.sessions WHERE created_at < now() - $1::interval"
_MAKE_ROOM = """
    DELETE FROM console.sessions WHERE token_sha256 IN (
        SELECT token_sha256 FROM console.sessions WHERE key_id = $1 OR subject = $2
        ORDER BY last_seen_at DESC OFFSET $3
    )
"""
_USE = """
    UPDATE console.sessions SET last_seen_at = now()
    WHERE token_sha256 = $1 AND last_seen_at >= now() - $2::interval AND created_at >= now() - $3::interval
    RETURNING key_id, claims, account
"""
_ENDED = """
    SELECT watched FROM unnest($1::bytea[]) AS watched WHERE NOT EXISTS (
        SELECT FROM console.sessions WHERE token_sha256 = watched
        AND last_seen_at >= now() - $2::interval AND created_at >= now() - $3::interval
    )
"""


@dataclass(frozen=True, slots=True)
class Session:
    """``account`` is what a principal of the platform works on; None on all accounts."""

    token: str
    principal: Principal
    account: str | None

    @property
    def digest(self) -> bytes:
        return _digest(self.token)

    @property
    def form_token(self) -> str:
        """What a form of this session must carry: whoever cannot read its pages does not know it."""
        return hmac.new(self.token.encode(), b"switchboard form", hashlib.sha256).hexdigest()


async def start(pool: Pool, api_key: ApiKey) -> Session:
    """Starts a session of an API key."""
    token = await _start(pool, api_key.key_id, None, None)
    return Session(token, api_key.principal, api_key.scope.account)


async def start_for_person(pool: Pool, person: Principal, claims: Claims) -> Session:
    """Starts a session of somebody with these claims, which say anew at each request what the person may do."""
    token = await _start(pool, None, person.subject, json.dumps(claims))
    return Session(token, person, person.scope.account)


async def _start(pool: Pool, key_id: str | None, subject: str | None, claims: str | None) -> str:
    token = secrets.token_urlsafe(32)
    await pool.execute(_CLEAN, LONGEST)
    await pool.execute(_MAKE_ROOM, key_id, subject, PER_OWNER - 1)
    await pool.execute(_START, _digest(token), key_id, subject, claims)
    return token


async def use(pool: Pool, issuers: TrustedIssuers, token: str, address: str | None) -> Session | None:
    """Returns the session of the token, which then is not idle; None if it has ended, or is not valid from there."""
    row = await pool.fetchrow(_USE, _digest(token), IDLE, LONGEST)
    if row is None:
        return None
    if row["key_id"] is None:
        principal = issuers.principal(json.loads(row["claims"]))
    else:
        api_key = await find_active(pool, row["key_id"])
        principal = None if api_key is None or not api_key.allows(address) else api_key.principal
    return None if principal is None else Session(token, principal, principal.scope.account or row["account"])


async def choose_account(pool: Pool, session: Session, account: str | None) -> None:
    await pool.execute("UPDATE console.sessions SET account = $2 WHERE token_sha256 = $1", session.digest, account)


async def end(pool: Pool, session: Session) -> None:
    await pool.execute("DELETE FROM console.sessions WHERE token_sha256 = $1", session.digest)


async def end_all(pool: Pool, principal: Principal) -> None:
    """Ends all sessions of the principal, in all browsers."""
    await pool.execute(
        "DELETE FROM console.sessions WHERE key_id = $1 OR subject = $2", principal.key_id, principal.subject
    )


async def ended_among(pool: Pool, digests: list[bytes]) -> list[bytes]:
    """Returns those of the sessions, by digest, that have ended."""
    return [row["watched"] for row in await pool.fetch(_ENDED, digests, IDLE, LONGEST)]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()

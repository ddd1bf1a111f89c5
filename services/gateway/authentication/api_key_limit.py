"""How many API keys an account or a provider may have, however they are made."""

from __future__ import annotations

from services.gateway.authentication.roles import Scope
from services.infrastructure.postgres import Connection

MAX_KEYS = 200

# One at a time counts for an account or provider: together, each would find the last free place.
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(concat_ws(' ', 'gateway.api_keys', $1::text, $2::text), 0))"
_COUNT = """
    SELECT count(*) FROM (
        SELECT FROM gateway.api_keys
        WHERE ($1::text IS NULL OR account = $1) AND ($2::text IS NULL OR provider = $2)
            AND (revoked_at IS NULL OR created_at > now() - interval '1 day')
            AND (expires_at IS NULL OR expires_at > now() - interval '1 day') LIMIT $3
    ) AS keys
"""


class TooManyKeys(Exception):
    """The account or provider has `MAX_KEYS` keys, those made or expired within the last day included."""


async def require_room(connection: Connection, scope: Scope) -> None:
    """To be called in the transaction that adds a key. Raises `TooManyKeys`. The platform's keys have no limit."""
    if scope.kind == "platform":
        return
    await connection.execute(_LOCK, scope.account, scope.provider)
    if await connection.fetchval(_COUNT, scope.account, scope.provider, MAX_KEYS) >= MAX_KEYS:
        raise TooManyKeys

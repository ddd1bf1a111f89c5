"""Rows of API keys, for tests without a database."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

from services.gateway.authentication.roles import ALL_ROLES


def key_row(token: str, account: str, roles: frozenset[str] = frozenset(ALL_ROLES)) -> dict[str, Any]:
    """The row of an account's key that was used a moment ago."""
    return {
        "key_id": token[3:11],
        "token_sha256": hashlib.sha256(token.encode()).digest(),
        "roles": sorted(roles),
        "scope": "account",
        "account": account,
        "channel": None,
        "provider": None,
        "label": "",
        "networks": [],
        "created_at": datetime.now(UTC),
        "created_by": None,
        "replaces": None,
        "expires_at": None,
        "last_used_at": datetime.now(UTC),
        "revoked_at": None,
        "owner": None,
    }

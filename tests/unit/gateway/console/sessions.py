"""Sessions for tests, without a database."""

from __future__ import annotations

from services.gateway.authentication.principal import Principal
from services.gateway.authentication.roles import ALL_ROLES, Scope
from services.gateway.authentication.sessions import Session


def session_of(account: str) -> Session:
    principal = Principal("api-key:abcdefgh", "test", ALL_ROLES, Scope(account), key_id="abcdefgh")
    return Session("token", principal, account)

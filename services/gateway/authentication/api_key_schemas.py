"""API keys as they are shown: for the OpenAPI document; no answer is validated by these types."""

from __future__ import annotations

from pydantic import with_config
from typing_extensions import TypedDict

from contracts.message import Time
from services.gateway.authentication.roles import Role, ScopeKind


@with_config(use_attribute_docstrings=True)
class ApiKeyJson(TypedDict):
    """An API key without its token."""

    key_id: str
    label: str
    owner: str | None
    """The person that it belongs to, for approvals; null: it counts as a person of its own."""

    roles: list[Role]
    scope: ScopeKind
    """What it reaches; `account`, `channel` and `provider` say which."""

    account: str | None
    channel: str | None
    provider: str | None
    networks: list[str]
    """From where it may be used; empty: from everywhere."""

    created_at: Time
    created_by: str | None
    replaces: str | None
    """The key of which it is the rotation."""

    expires_at: Time | None
    last_used_at: Time | None
    """The full hour of the last use."""

    revoked_at: Time | None


class ApiKeyList(TypedDict):
    """API keys, newest first."""

    api_keys: list[ApiKeyJson]


@with_config(use_attribute_docstrings=True)
class CreatedApiKey(ApiKeyJson):
    """A new API key."""

    token: str
    """Shown this once."""

"""Whom a credential stands for, whatever kind of credential it is."""

from __future__ import annotations

from dataclasses import dataclass

from services.gateway.authentication.roles import Role, Scope


@dataclass(frozen=True, slots=True)
class Principal:
    """``subject`` is what the audit names as the actor; ``key_id`` is None unless it is an API key.

    ``expires_at`` is when a token expires, in seconds of Unix time; None for what does not expire by itself. ``owner``
    is the person that an API key belongs to, where it names one.
    """

    subject: str
    name: str | None
    roles: frozenset[Role]
    scope: Scope
    key_id: str | None = None
    expires_at: float | None = None
    owner: str | None = None

    @property
    def person(self) -> str:
        """For four eyes: keys of one owner are one person."""
        return self.owner or self.subject

    @property
    def payer(self) -> str | None:
        """Whose rate of requests it counts to; None for the platform's, which are the operator's own."""
        if self.scope.provider is not None:
            return f"provider:{self.scope.provider}"
        return self.scope.account

    def covers(self, roles: frozenset[Role], scope: Scope) -> bool:
        """Whether these roles in that scope may do nothing that this principal may not."""
        return roles <= self.roles | {Role.VIEWER} and self.scope.contains(scope)

"""What a caller may do (roles), and on what (its scope)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

ScopeKind = Literal["platform", "provider", "account", "channel"]


class Role(StrEnum):
    """A caller has one or more. Each may read settings; `OPERATIONS` has the rest."""

    VIEWER = "viewer"
    EDITOR = "editor"
    SIGNATURE_KEEPER = "signature-keeper"
    AUDITOR = "auditor"
    APPROVER = "approver"
    ADMINISTRATOR = "administrator"
    DEVELOPER = "developer"


ALL_ROLES = frozenset(Role)


@dataclass(frozen=True, slots=True)
class Scope:
    """The channels that a caller may reach: all, those that name a provider, those of an account, or one.

    A channel's scope has its account too. The platform's has nothing.
    """

    account: str | None = None
    channel: str | None = None
    provider: str | None = None

    def __post_init__(self) -> None:
        if self.channel is not None and self.account is None:
            raise ValueError("the scope of a channel has its account")
        if self.provider is not None and self.account is not None:
            raise ValueError("a scope has a provider or an account")

    @property
    def kind(self) -> ScopeKind:
        if self.channel is not None:
            return "channel"
        if self.account is not None:
            return "account"
        return "platform" if self.provider is None else "provider"

    def contains(self, other: Scope) -> bool:
        """Whether the other scope reaches nothing that this one does not."""
        if self.kind == "platform" or self == other:
            return True
        return self.kind == "account" and self.account == other.account


PLATFORM = Scope()

"""The issuers whose tokens are taken, and what each token may do: the YAML file of ``SWITCHBOARD_OIDC_FILE``.

`docs/access.md` has an example of all fields.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StrictBool,
    StrictInt,
    StrictStr,
    StringConstraints,
    ValidationError,
    model_validator,
)

from contracts.envelope import validation_message
from contracts.ids import ID_PATTERN, is_id
from contracts.names import Name
from services.gateway.authentication.roles import Role, Scope, ScopeKind

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519"
]  # fmt: skip
"""Asymmetric ones alone: whoever has the public key must not be able to sign."""

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_LONGEST_ISSUER = 127
"""So that half of an actor's 255 characters are left for the subject."""


def require_safe_url(url: str) -> str:
    """Raises ValueError unless nobody on the way can read or change what is sent there."""
    parts = urlsplit(url)
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)):
        raise ValueError("it must begin with https:// (http:// on this machine alone)")
    return url


def _without_query(url: str) -> str:
    if "?" in url or "#" in url:
        raise ValueError("it has no query and no fragment")
    return url


_Url = Annotated[str, AfterValidator(require_safe_url), AfterValidator(_without_query)]
_IssuerUrl = Annotated[str, StringConstraints(max_length=_LONGEST_ISSUER), *_Url.__metadata__]
_Id = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
_Text = Annotated[str, StringConstraints(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Grant(_Part):
    """Roles in a scope, for tokens that have all these claims.

    A claim that is a list has a value if the value is in it. ``account_claim`` names the claim that holds the account.
    """

    claims: Annotated[dict[str, StrictStr | StrictBool | StrictInt], Field(min_length=1)]
    roles: Annotated[frozenset[Role], Field(min_length=1)]
    scope: ScopeKind = "account"
    account: _Id | None = None
    account_claim: _Text | None = None
    channel: _Id | None = None
    provider: _Id | None = None

    @model_validator(mode="after")
    def _has_what_its_scope_needs(self) -> Self:
        given = {
            "account or account_claim": (self.account is not None) + (self.account_claim is not None),
            "channel": self.channel is not None,
            "provider": self.provider is not None,
        }
        needed = {
            "platform": (),
            "provider": ("provider",),
            "account": ("account or account_claim",),
            "channel": ("account or account_claim", "channel"),
        }[self.scope]
        for name, count in given.items():
            if count != (name in needed):
                what = "needs one" if name in needed else "has no"
                raise ValueError(f"a grant of scope {self.scope!r} {what} {name}")
        return self

    def scope_for(self, claims: dict[str, Any]) -> Scope | None:
        """Returns the scope that it grants; None if the claims are not those, or name no account."""
        if not all(_has(claims.get(name), value) for name, value in self.claims.items()):
            return None
        account = self.account
        if self.account_claim is not None:
            account = claims.get(self.account_claim)
            if not isinstance(account, str) or not is_id(account):
                return None
        return Scope(account, self.channel, self.provider)


class ConsoleClient(_Part):
    """The console as a client of the issuer. Without a secret it is a public client, which PKCE protects."""

    label: Name
    client_id: _Text
    client_secret: SecretStr | None = None
    scopes: tuple[_Text, ...] = ("openid", "profile")


class Issuer(_Part):
    """A token for the API names one of the ``audiences``. The name in ``name_claim`` is for the audit."""

    issuer: _IssuerUrl
    audiences: Annotated[tuple[_Text, ...], Field(min_length=1)]
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1)] = ("RS256",)
    skew_seconds: Annotated[int, Field(ge=0, le=300)] = 30
    name_claim: _Text = "name"
    grants: Annotated[tuple[Grant, ...], Field(min_length=1)]
    console: ConsoleClient | None = None


class OidcConfiguration(_Part):
    """``console_url`` is the address at which browsers reach the console, such as ``https://switchboard.example``."""

    issuers: tuple[Issuer, ...] = ()
    console_url: _Url | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        names = [one.issuer for one in self.issuers]
        if len(names) != len(set(names)):
            raise ValueError("an issuer is there twice")
        if self.console_url is None and any(one.console for one in self.issuers):
            raise ValueError("'console_url' is missing, which an issuer with 'console' needs")
        return self

    @property
    def redirect_uri(self) -> str | None:
        """Where an issuer sends the browser back to, to be registered there."""
        return None if self.console_url is None else f"{self.console_url.rstrip('/')}/console/log-on/callback"


def load(path: str | None) -> OidcConfiguration:
    """Reads the file; without one there are no issuers. Raises ValueError with sentences that repeat no value of it."""
    if path is None:
        return OidcConfiguration()
    try:
        return OidcConfiguration.model_validate(yaml.safe_load(Path(path).read_bytes()))
    except ValidationError as error:
        raise ValueError(validation_message(error).removesuffix(".")) from None
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        where = getattr(error, "problem_mark", None)
        line = "" if where is None else f" near line {where.line + 1}"
        raise ValueError(f"the file is no YAML that can be read{line}") from None


def _has(claim: Any, value: str | bool | int) -> bool:  # noqa: FBT001 -- a claim may be one
    held = claim if isinstance(claim, list) else [claim]
    return any(type(one) is type(value) and one == value for one in held)

"""Checks the tokens of the configured issuers, and says whom each stands for.

joserfc checks signatures and claims. What is decided here is which issuer, which keys, and what claims must be there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from joserfc.jwt import JWTClaimsRegistry
from pydantic_core import from_json

from services.gateway.authentication.oidc.configuration import Issuer, OidcConfiguration
from services.gateway.authentication.oidc.provider import Provider
from services.gateway.authentication.principal import Principal
from services.gateway.authentication.roles import Role, Scope

_TYPES = ("jwt", "at+jwt", "application/at+jwt")
"""Of tokens that say their type. Others, such as a logout token, have the same issuer and keys (RFC 8725, 3.11)."""
_LONGEST_ACTOR = 255
_FAR_FUTURE_S = 2**40
_MALFORMED = (JoseError, ValueError, TypeError, KeyError)

Claims = dict[str, Any]


class IssuerUnavailable(Exception):
    """Whether the token is valid cannot be told: the issuer's keys are not known."""


def looks_signed(token: str) -> bool:
    """Whether it has the three parts of a signed token; an API key has no dots."""
    return token.count(".") == 2


class UnverifiedToken:
    """A token as it is written, with nothing checked yet. Raises ValueError for what is no signed token."""

    def __init__(self, token: str) -> None:
        try:
            self.signature = jws.extract_compact(token.encode())
            self.claims = from_json(self.signature.payload)
        except _MALFORMED:
            raise ValueError("it is no signed token") from None
        if not isinstance(self.claims, dict):
            raise ValueError("its claims are no JSON object")

    @property
    def issuer(self) -> object:
        return self.claims.get("iss")

    @property
    def key_id(self) -> object:
        return self.signature.headers().get("kid")


class TrustedIssuer:
    """An issuer of the configuration, with its keys."""

    def __init__(self, issuer: Issuer, provider: Provider) -> None:
        self.configuration, self.provider = issuer, provider
        self._registry = jws.JWSRegistry(algorithms=issuer.algorithms, strict_check_header=False)

    async def verified_claims(self, token: UnverifiedToken, audiences: Iterable[str]) -> Claims | None:
        """Returns the claims of a token that is valid now for one of the audiences; None otherwise.

        A key that is not known yet is waited for, until the issuer may be asked again. Raises `IssuerUnavailable`.
        """
        keys = self._keys()
        if not self._has_expected_header(token):
            return None
        if not self._is_signed(token, keys):
            if any(key.kid == token.key_id for key in keys):
                return None
            if not await self.provider.refreshed():
                raise IssuerUnavailable
            if not self._is_signed(token, self._keys()):
                return None
        return token.claims if self._is_valid(token.claims, audiences) else None

    def principal(self, claims: Claims) -> Principal | None:
        """Returns whom the claims stand for; None if no grant is for them.

        The first grant that is says the scope. All that are, with the same scope, add up to the roles.
        """
        actor = f"{self.configuration.issuer}#{claims['sub']}"
        if len(actor) > _LONGEST_ACTOR or not actor.isprintable():
            return None
        scope: Scope | None = None
        roles: frozenset[Role] = frozenset()
        for grant in self.configuration.grants:
            granted = grant.scope_for(claims)
            if granted is not None and scope in (None, granted):
                scope, roles = granted, roles | grant.roles
        if scope is None:
            return None
        name = claims.get(self.configuration.name_claim)
        name = "".join(filter(str.isprintable, name)) if isinstance(name, str) else None
        return Principal(actor, name, roles, scope)

    def claims_of_grants(self, claims: Claims) -> Claims:
        """Returns the claims that `principal` asks for."""
        names = {"iss", "sub", self.configuration.name_claim}
        for grant in self.configuration.grants:
            names |= {*grant.claims, grant.account_claim or "sub"}
        return {name: claims[name] for name in names & claims.keys()}

    def _keys(self) -> KeySet:
        keys = self.provider.keys
        if keys is None:
            raise IssuerUnavailable
        return keys

    def _has_expected_header(self, token: UnverifiedToken) -> bool:
        header = token.signature.headers()
        is_of_type = str(header.get("typ", "jwt")).lower() in _TYPES
        return is_of_type and header.get("alg") in self.configuration.algorithms

    def _is_signed(self, token: UnverifiedToken, keys: KeySet) -> bool:
        try:
            return jws.validate_compact(token.signature, keys, registry=self._registry)
        except _MALFORMED:
            return False

    def _is_valid(self, claims: Claims, audiences: Iterable[str]) -> bool:
        required = JWTClaimsRegistry(
            leeway=self.configuration.skew_seconds,
            iss={"essential": True, "value": self.configuration.issuer},
            aud={"essential": True, "values": list(audiences)},
            sub={"essential": True},
            exp={"essential": True},
        )
        try:
            required.validate(claims)
        except JoseError:
            return False
        return True

    def expires_at(self, claims: Claims) -> float:
        """Until when a token with these claims is taken, in seconds of Unix time."""
        return float(min(claims["exp"], _FAR_FUTURE_S)) + self.configuration.skew_seconds


class TrustedIssuers:
    """All issuers of the configuration."""

    def __init__(self, oidc: OidcConfiguration, **intervals: float) -> None:
        self._by_name = {one.issuer: TrustedIssuer(one, Provider(one.issuer, **intervals)) for one in oidc.issuers}
        self.configuration = oidc

    def get(self, name: object) -> TrustedIssuer | None:
        return self._by_name.get(name) if isinstance(name, str) else None

    @property
    def of_console(self) -> dict[str, str]:
        """Issuer -> what the console calls it, of those at which people log on to it."""
        return {one.issuer: one.console.label for one in self.configuration.issuers if one.console is not None}

    async def authenticate(self, token: str) -> Principal | None:
        """Returns whom a token for the API stands for; None if it is not valid. Raises `IssuerUnavailable`."""
        try:
            unverified = UnverifiedToken(token)
        except ValueError:
            return None
        issuer = self.get(unverified.issuer)
        if issuer is None:
            return None
        claims = await issuer.verified_claims(unverified, issuer.configuration.audiences)
        principal = None if claims is None else issuer.principal(claims)
        return principal and replace(principal, expires_at=issuer.expires_at(unverified.claims))

    def principal(self, claims: Claims) -> Principal | None:
        """As `TrustedIssuer.principal`, of the issuer that the claims name."""
        issuer = self.get(claims["iss"])
        return None if issuer is None else issuer.principal(claims)

    @asynccontextmanager
    async def running(self, *, wait_s: float) -> AsyncIterator[None]:
        """Keeps the keys of all issuers inside it. Waits at most so long for the first ones."""
        providers = [one.provider for one in self._by_name.values()]
        first = asyncio.gather(*(one.refreshed() for one in providers))  # before the fetch that it waits for
        tasks = [asyncio.create_task(one.run()) for one in providers]
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await first
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

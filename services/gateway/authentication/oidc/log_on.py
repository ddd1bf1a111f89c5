"""Logging a person on at an issuer: the authorization code flow of OpenID Connect Core 1.0, with PKCE (RFC 7636).

`begin` says where the browser goes, and what it keeps to prove that the answer is its own. `complete` takes the answer,
once and within `LIFETIME`.
"""

from __future__ import annotations

import hashlib
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from datetime import timedelta
from hmac import compare_digest
from urllib.parse import quote_plus, urlencode

import aiohttp
from pydantic import BaseModel

from services.gateway.authentication.oidc.configuration import ConsoleClient
from services.gateway.authentication.oidc.provider import UNREADABLE, fetch, http_session
from services.gateway.authentication.oidc.tokens import (
    Claims,
    IssuerUnavailable,
    TrustedIssuer,
    TrustedIssuers,
    UnverifiedToken,
)
from services.gateway.authentication.principal import Principal
from services.infrastructure.postgres import Pool

LIFETIME = timedelta(minutes=10)

_CLEAN = "DELETE FROM console.log_ons WHERE created_at < now() - $1::interval"
_BEGIN = "INSERT INTO console.log_ons (state_sha256, issuer, nonce, code_verifier, next) VALUES ($1, $2, $3, $4, $5)"
_TAKE = """
    DELETE FROM console.log_ons WHERE state_sha256 = $1 AND created_at >= now() - $2::interval
    RETURNING issuer, nonce, code_verifier, next
"""


class NotLoggedOnByIssuer(Exception):
    """The answer is not to a question of this browser, or does not say who somebody is."""


@dataclass(frozen=True, slots=True)
class LoggedOn:
    """``next`` is the page that the person wanted to see."""

    person: Principal
    claims: Claims
    next: str


class _Tokens(BaseModel):
    id_token: str


def code_challenge(code_verifier: str) -> str:
    """The method S256 of RFC 7636, section 4.2."""
    return urlsafe_b64encode(hashlib.sha256(code_verifier.encode()).digest()).rstrip(b"=").decode()


async def begin(pool: Pool, issuer: TrustedIssuer, redirect_uri: str, next_page: str) -> tuple[str, str]:
    """Returns the address at which the issuer logs the person on, and the state that the browser keeps meanwhile.

    Raises `IssuerUnavailable`.
    """
    client, discovery = _client(issuer), issuer.provider.discovery
    if discovery is None or discovery.authorization_endpoint is None:
        raise IssuerUnavailable
    state, nonce, code_verifier = (secrets.token_urlsafe(32) for _ in range(3))
    await pool.execute(_CLEAN, LIFETIME)
    await pool.execute(_BEGIN, _digest(state), issuer.configuration.issuer, nonce, code_verifier, next_page)
    query = {
        "response_type": "code",
        "client_id": client.client_id,
        "redirect_uri": redirect_uri,
        "scope": " ".join(client.scopes),
        "state": state,
        "nonce": nonce,
        "code_challenge": code_challenge(code_verifier),
        "code_challenge_method": "S256",
    }
    endpoint = discovery.authorization_endpoint
    return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}", state


async def complete(
    pool: Pool, issuers: TrustedIssuers, redirect_uri: str, *, kept_state: str, answer: dict[str, str]
) -> LoggedOn:
    """Takes the query with which the browser comes back. Raises `NotLoggedOnByIssuer` and `IssuerUnavailable`."""
    state = answer.get("state", "")
    if not state or not compare_digest(state.encode(), kept_state.encode()):
        raise NotLoggedOnByIssuer
    begun = await pool.fetchrow(_TAKE, _digest(state), LIFETIME)
    issuer = None if begun is None else issuers.get(begun["issuer"])
    if begun is None or issuer is None or "code" not in answer:
        raise NotLoggedOnByIssuer
    if answer.get("iss", begun["issuer"]) != begun["issuer"]:  # RFC 9207: the code is another issuer's
        raise NotLoggedOnByIssuer
    id_token = await _id_token(issuer, answer["code"], begun["code_verifier"], redirect_uri)
    claims = await _claims(issuer, id_token, begun["nonce"])
    person = None if claims is None else issuer.principal(claims)
    if claims is None or person is None:
        raise NotLoggedOnByIssuer
    return LoggedOn(person, issuer.claims_of_grants(claims), begun["next"])


async def _id_token(issuer: TrustedIssuer, code: str, code_verifier: str, redirect_uri: str) -> str:
    client, discovery = _client(issuer), issuer.provider.discovery
    if discovery is None or discovery.token_endpoint is None:
        raise IssuerUnavailable
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": redirect_uri,
        "client_id": client.client_id,
        "code_verifier": code_verifier,
    }
    headers = {}
    if client.client_secret is not None:
        secret = client.client_secret.get_secret_value()
        # RFC 6749, section 2.3.1
        headers["Authorization"] = aiohttp.encode_basic_auth(quote_plus(client.client_id), quote_plus(secret))
    try:
        async with http_session() as session:
            answer = await fetch(session, "POST", discovery.token_endpoint, _Tokens, data=form, headers=headers)
    except UNREADABLE:
        raise NotLoggedOnByIssuer from None
    return answer.id_token


async def _claims(issuer: TrustedIssuer, id_token: str, nonce: str) -> Claims | None:
    """OpenID Connect Core 1.0, section 3.1.3.7."""
    client_id = _client(issuer).client_id
    try:
        claims = await issuer.verified_claims(UnverifiedToken(id_token), [client_id])
    except ValueError:
        return None
    if claims is None or claims.get("nonce") != nonce or claims.get("azp", client_id) != client_id:
        return None
    return claims


def _client(issuer: TrustedIssuer) -> ConsoleClient:
    client = issuer.configuration.console
    if client is None:
        raise NotLoggedOnByIssuer
    return client


def _digest(state: str) -> bytes:
    return hashlib.sha256(state.encode()).digest()

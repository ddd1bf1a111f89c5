"""Tokens of a real issuer, and what strangers make of them: who is let in, as whom, and who is not."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from services.gateway.authentication.oidc.tokens import TrustedIssuers
from services.gateway.authentication.roles import PLATFORM, Role, Scope
from tests.oidc_provider import EDITOR, OidcProvider, trusting


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OidcProvider]:
    with OidcProvider(tmp_path_factory.mktemp("oidc")) as provider:
        yield provider


@pytest.fixture
async def issuers(provider: OidcProvider) -> AsyncIterator[TrustedIssuers]:
    issuers = trusting(provider.issuer, min_interval_s=0.1)
    async with issuers.running(wait_s=10):
        yield issuers


async def test_a_token_stands_for_its_subject_at_its_issuer(provider: OidcProvider, issuers: TrustedIssuers) -> None:
    principal = await issuers.authenticate(await provider.token("alice", **EDITOR))
    assert principal is not None
    assert principal.subject == f"{provider.issuer}#alice"
    assert (principal.name, principal.roles, principal.scope) == ("Alice", frozenset({Role.EDITOR}), Scope("acme"))
    assert principal.key_id is None
    assert principal.expires_at is not None
    assert abs(principal.expires_at - time.time() - 3600 - 5) < 60


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"groups": ["editors", "auditors"]}, ({Role.EDITOR, Role.AUDITOR}, Scope("acme"))),
        ({"groups": "editors"}, ({Role.EDITOR}, Scope("acme"))),
        ({"groups": ["editors", "operators"], "email_verified": True}, ({Role.EDITOR}, Scope("acme"))),
        ({"groups": ["operators"], "email_verified": True}, ({Role.ADMINISTRATOR}, PLATFORM)),
        ({"groups": ["tenants"], "tenant": "shop"}, ({Role.EDITOR}, Scope("shop"))),
        ({"groups": ["operators"], "email_verified": "true"}, None),
        ({"groups": ["operators"], "email_verified": 1}, None),
        ({"groups": ["operators"]}, None),
        ({"groups": ["tenants"]}, None),
        ({"groups": ["tenants"], "tenant": ["shop"]}, None),
        ({"groups": ["tenants"], "tenant": "a/b"}, None),
        ({"groups": ["strangers"]}, None),
        ({"groups": {"editors": True}}, None),
        ({}, None),
    ],
    ids=lambda one: str(one) if isinstance(one, dict) else "",
)
async def test_claims_are_mapped_to_roles_and_a_scope(
    provider: OidcProvider, issuers: TrustedIssuers, claims: dict[str, Any], expected: tuple[set[Role], Scope] | None
) -> None:
    principal = await issuers.authenticate(await provider.token("bob", **claims))
    assert (None if principal is None else (set(principal.roles), principal.scope)) == expected


@pytest.mark.parametrize(
    ("claims", "accepted"),
    [
        ({"aud": ["another", "switchboard"]}, True),
        ({"aud": "another"}, False),
        ({"aud": []}, False),
        ({"aud": {"switchboard": 1}}, False),
        ({"aud": None}, False),
        ({"iss": "https://another.example"}, False),
        ({"iss": ["https://another.example"]}, False),
        ({"iss": None}, False),
        pytest.param({"sub": "x" * 300}, False, id="longer than an actor"),
        ({"sub": "a\nb"}, False),
    ],
    ids=str,
)
async def test_a_token_for_another_audience_is_refused(
    provider: OidcProvider, issuers: TrustedIssuers, claims: dict[str, Any], *, accepted: bool
) -> None:
    """The issuer itself signs these."""
    subject = claims.pop("sub", "carol")
    token = await provider.token(subject, **EDITOR, **claims)
    assert (await issuers.authenticate(token) is not None) is accepted


@pytest.mark.parametrize(
    ("claim", "in_seconds", "accepted"),
    [
        ("exp", -60, False),
        ("exp", -2, True),  # within the skew
        ("nbf", 60, False),
        ("nbf", 2, True),
        ("iat", 60, False),
    ],
)
async def test_a_token_for_another_time_is_refused(
    provider: OidcProvider, issuers: TrustedIssuers, claim: str, in_seconds: int, *, accepted: bool
) -> None:
    token = await provider.token("dave", **(EDITOR | {claim: int(time.time()) + in_seconds}))
    assert (await issuers.authenticate(token) is not None) is accepted


@pytest.mark.parametrize("exp", [None, "tomorrow", True, 1e400, 10**400], ids=["none", "text", "bool", "inf", "far"])
async def test_a_token_needs_an_expiry(provider: OidcProvider, issuers: TrustedIssuers, exp: object) -> None:
    token = await provider.token("erin", **EDITOR, exp=exp)
    assert (await issuers.authenticate(token) is not None) is (exp == 10**400)


def encoded(part: object) -> str:
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(part: str) -> dict[str, Any]:
    return dict(json.loads(urlsafe_b64decode(part + "==")))


async def forgeries(provider: OidcProvider) -> dict[str, str]:
    """Tokens that say what a valid one says, and that the issuer did not sign."""
    real = await provider.token("alice", **EDITOR)
    header, payload, signature = real.split(".")
    published = await provider.json_web_key()
    public, own = RSAKey.import_key(published), RSAKey.generate_key(2048)
    claims = decoded(payload)
    kid = published["kid"]

    def with_secret(secret: bytes, kid: dict[str, str]) -> str:
        signed = f"{encoded({'alg': 'HS256', **kid})}.{payload}"
        return f"{signed}.{encoded(hmac.digest(secret, signed.encode(), hashlib.sha256))}"

    def by_stranger(**more: Any) -> str:
        return jwt.encode({"alg": "RS256", **more}, claims, own)

    return {
        "more rights": f"{header}.{encoded(claims | {'groups': ['operators']})}.{signature}",
        "alg none": f"{encoded({'alg': 'none'})}.{payload}.",
        "alg None, the key's id": f"{encoded({'alg': 'None', 'kid': kid})}.{payload}.{signature}",
        "no alg": f"{encoded({'kid': kid})}.{payload}.{signature}",
        "no signature": f"{header}.{payload}.",
        "wrong key": by_stranger(),
        "wrong key, the key's id": by_stranger(kid=kid),
        "wrong key, unknown id": by_stranger(kid="another"),
        "wrong key in the header": by_stranger(jwk=own.as_dict(private=False)),
        "wrong key at an address": by_stranger(jku="http://127.0.0.1:1/jwks", kid="another"),
        "wrong kind of key": jwt.encode({"alg": "ES256", "kid": kid}, claims, ECKey.generate_key("P-256")),
        "HS256 with the public key as PEM": with_secret(public.as_pem(), {}),
        "HS256 with the public key as PEM, the key's id": with_secret(public.as_pem(), {"kid": kid}),
        "HS256 with the public key as DER": with_secret(public.as_der(), {"kid": kid}),
        "HS256 with the published key": with_secret(json.dumps(published).encode(), {"kid": kid}),
        "HS256 with the modulus": with_secret(published["n"].encode(), {"kid": kid}),
    }


async def test_what_the_issuer_did_not_sign_is_refused(provider: OidcProvider, issuers: TrustedIssuers) -> None:
    accepted = {name: await issuers.authenticate(token) for name, token in (await forgeries(provider)).items()}
    assert {name: one for name, one in accepted.items() if one is not None} == {}
    assert await issuers.authenticate(await provider.token("alice", **EDITOR)) is not None


@pytest.mark.parametrize("header", [5, [], {"alg": 5}, {"alg": ["RS256"]}, {"alg": "RS256", "crit": 5}, {"kid": []}])
@pytest.mark.parametrize("claims", [b"", b"\xff", b"[" * 20_000, b"[]", b'{"iss": 5}', None])
async def test_what_is_no_token_is_refused(
    provider: OidcProvider, issuers: TrustedIssuers, header: object, claims: bytes | None
) -> None:
    payload = json.dumps({"iss": provider.issuer}).encode() if claims is None else claims
    for first in (header, {"alg": "RS256", **header} if isinstance(header, dict) else header, b"{"):
        for signature in ("", "AAAA", "é"):
            assert await issuers.authenticate(f"{encoded(first)}.{encoded(payload)}.{signature}") is None

"""The keys of an issuer: rotated while requests run, asked for by strangers, and not to be had."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, Key, OctKey, OKPKey

from services.gateway.authentication.oidc import provider as provider_module
from services.gateway.authentication.oidc.configuration import OidcConfiguration
from services.gateway.authentication.oidc.tokens import IssuerUnavailable, TrustedIssuers
from tests.local_issuer import LocalIssuer, rsa_key
from tests.oidc_provider import EDITOR, GRANTS, OidcProvider, trusting
from tests.patience import PATIENCE_S

INTERVAL_S = 0.3


async def test_no_request_fails_while_the_key_is_rotated(tmp_path: Path) -> None:
    """Tokens of the new key are taken from the first one on, and those of the old one until it is gone."""
    with OidcProvider(tmp_path) as provider:
        old = await provider.token("alice", **EDITOR)
        issuers = trusting(provider.issuer, min_interval_s=INTERVAL_S)
        async with issuers.running(wait_s=10):
            rotating = asyncio.create_task(asyncio.to_thread(provider.rotate))
            while not rotating.done():
                assert await issuers.authenticate(old) is not None
                await asyncio.sleep(0.01)
            await rotating
            new = await provider.token("alice", **EDITOR)
            stranger = await provider.token("alice")  # signed by the new key, and the first to ask for it
            refused, *taken = await asyncio.gather(*(issuers.authenticate(one) for one in (stranger, *[new] * 50)))
            assert refused is None
            assert all(taken)
            assert await issuers.authenticate(old) is None
            assert await issuers.authenticate(new) is not None


async def test_a_key_that_is_published_before_its_use_costs_no_wait() -> None:
    old, new = rsa_key("old"), rsa_key("new")
    async with LocalIssuer(old, new) as issuer:
        issuers = trusting(issuer.issuer, min_interval_s=60)
        async with issuers.running(wait_s=10):
            for key in (old, new, old):
                assert await issuers.authenticate(issuer.token(key)) is not None
        assert issuer.asked == 1


async def test_a_key_that_is_withdrawn_is_soon_refused() -> None:
    """Nobody has to ask for another one."""
    old, new = rsa_key("old"), rsa_key("new")
    async with LocalIssuer(old, new) as issuer:
        issuers = trusting(issuer.issuer, min_interval_s=0.05, refresh_s=0.05)
        async with issuers.running(wait_s=10):
            token = issuer.token(old)
            assert await issuers.authenticate(token) is not None
            issuer.keys = [new.as_dict(private=False)]
            async with asyncio.timeout(PATIENCE_S):
                while await issuers.authenticate(token) is not None:  # noqa: ASYNC110 -- nobody tells it
                    await asyncio.sleep(0.02)


async def test_strangers_cannot_make_us_ask_often_nor_keep_others_out() -> None:
    old, new, own = rsa_key("old"), rsa_key("new"), rsa_key("own")
    async with LocalIssuer(old) as issuer:
        issuers = trusting(issuer.issuer, min_interval_s=INTERVAL_S)
        async with issuers.running(wait_s=10):
            begun = time.monotonic()

            async def stranger(number: int) -> None:
                while time.monotonic() < begun + 5 * INTERVAL_S:
                    assert await issuers.authenticate(issuer.token(own, header={"kid": f"k{number}"})) is None

            strangers = asyncio.gather(*(stranger(number) for number in range(20)))
            await asyncio.sleep(INTERVAL_S)
            issuer.keys.append(new.as_dict(private=False))
            assert await issuers.authenticate(issuer.token(new)) is not None
            assert await issuers.authenticate(issuer.token(old)) is not None
            await strangers
            assert 3 <= issuer.asked <= (time.monotonic() - begun) / INTERVAL_S + 2


async def test_while_no_key_is_known_nothing_can_be_told(caplog: pytest.LogCaptureFixture) -> None:
    key = rsa_key("one")
    issuer = LocalIssuer(key)
    issuers = trusting(issuer.issuer, min_interval_s=0.1)
    async with issuers.running(wait_s=10):
        for token in (issuer.token(key), issuer.token(rsa_key("other"))):
            with pytest.raises(IssuerUnavailable):
                await issuers.authenticate(token)
        assert await issuers.authenticate(issuer.token(key, iss="https://another.example")) is None
        async with issuer:
            await issuers.get(issuer.issuer).provider.refreshed()  # type: ignore[union-attr]
            await issuers.get(issuer.issuer).provider.refreshed()  # type: ignore[union-attr]
            assert await issuers.authenticate(issuer.token(key)) is not None
    said = [record.getMessage() for record in caplog.records]
    assert sum("issuer unavailable" in one for one in said) == 1


async def test_keys_that_are_known_outlast_the_issuer(monkeypatch: pytest.MonkeyPatch) -> None:
    key = rsa_key("one")
    async with LocalIssuer(key) as issuer:
        issuers = trusting(issuer.issuer, min_interval_s=0.1)
        running = issuers.running(wait_s=10)
        await running.__aenter__()
    try:
        assert await issuers.authenticate(issuer.token(key)) is not None
        with pytest.raises(IssuerUnavailable):
            await issuers.authenticate(issuer.token(rsa_key("another")))
        assert await issuers.authenticate(issuer.token(key)) is not None
        monkeypatch.setattr(provider_module, "MAX_AGE_S", 0.0)
        with pytest.raises(IssuerUnavailable):
            await issuers.authenticate(issuer.token(key))
    finally:
        await running.__aexit__(None, None, None)


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://another.example"},
        {"jwks_uri": "http://issuer.example/jwks"},
        {"jwks_uri": "{issuer}/elsewhere"},
        {"jwks_uri": "{issuer}/none"},
        {"jwks_uri": "ftp://127.0.0.1/jwks"},
        {"jwks_uri": None},
    ],
    ids=str,
)
async def test_an_issuer_that_publishes_something_else_is_not_believed(document: dict[str, str | None]) -> None:
    key = rsa_key("one")
    async with LocalIssuer(key) as issuer:
        issuer.discovery |= {name: (value or "").format(issuer=issuer.issuer) for name, value in document.items()}
        issuers = trusting(issuer.issuer, min_interval_s=60)
        async with issuers.running(wait_s=10):
            with pytest.raises(IssuerUnavailable):
                await issuers.authenticate(issuer.token(key))


async def test_only_public_keys_for_signatures_are_taken() -> None:
    good, private, encrypting = rsa_key("good"), rsa_key("private"), rsa_key("encrypting")
    secret = OctKey.generate_key(256, {"kid": "secret"})
    with pytest.warns(SecurityWarning):
        weak = rsa_key("weak", 1024)
    async with LocalIssuer(good) as issuer:
        issuer.keys += [
            private.as_dict(private=True),
            encrypting.as_dict(private=False, use="enc"),
            weak.as_dict(private=False),
            secret.as_dict(private=True),
            {"kty": "RSA", "kid": "broken", "n": "AQAB", "e": "AQAB"},
            {"kty": "EC", "kid": "curve", "crv": "P-1", "x": "AQAB", "y": "AQAB"},
            {"kty": "AKP", "kid": "later", "alg": "ML-DSA-44", "pub": "AQAB"},
            {"kid": 5},
        ]
        issuers = trusting(issuer.issuer, min_interval_s=0.1)
        async with issuers.running(wait_s=10):
            assert await issuers.authenticate(issuer.token(good)) is not None
            for key in (private, encrypting, weak):
                assert await issuers.authenticate(issuer.token(key)) is None
            assert await issuers.authenticate(issuer.token(secret, "HS256")) is None
            assert await issuers.authenticate(issuer.token(good, header={"kid": None})) is not None  # there is no other


@pytest.mark.parametrize(
    ("pinned", "used", "key"),
    [
        ("RS256", "RS256", rsa_key("rsa")),
        ("PS256", "PS256", rsa_key("rsa")),
        ("RS256", "PS256", rsa_key("rsa")),
        ("RS256", "RS512", rsa_key("rsa")),
        ("ES256", "ES256", ECKey.generate_key("P-256", {"kid": "ec"})),
        ("ES256", "ES384", ECKey.generate_key("P-384", {"kid": "ec"})),
        ("Ed25519", "Ed25519", OKPKey.generate_key("Ed25519", {"kid": "ed"})),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_algorithms_are_pinned(pinned: str, used: str, key: Key) -> None:
    async with LocalIssuer(key) as issuer:
        configured = {"issuer": issuer.issuer, "audiences": ["switchboard"], "algorithms": [pinned], "grants": GRANTS}
        issuers = TrustedIssuers(OidcConfiguration.model_validate({"issuers": [configured]}), min_interval_s=0.1)
        async with issuers.running(wait_s=10):
            accepted = await issuers.authenticate(issuer.token(key, used)) is not None
            assert accepted is (pinned == used)


@pytest.mark.parametrize(
    ("claim", "accepted"),
    [("iss", False), ("aud", False), ("sub", False), ("exp", False), ("iat", True), ("name", True)],
)
async def test_a_token_without_a_claim(claim: str, *, accepted: bool) -> None:
    key = rsa_key("one")
    async with LocalIssuer(key) as issuer:
        issuers = trusting(issuer.issuer, min_interval_s=0.1)
        async with issuers.running(wait_s=10):
            assert (
                await issuers.authenticate(issuer.token(key, "RS256", header=None, **{claim: None})) is not None
            ) is accepted


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ({"typ": "at+jwt"}, True),
        ({"typ": "application/at+jwt"}, True),
        ({"typ": "logout+jwt"}, False),
        ({"x-other": "y"}, True),
    ],
    ids=str,
)
async def test_a_token_of_another_type_is_refused(header: dict[str, Any], *, accepted: bool) -> None:
    key = rsa_key("one")
    async with LocalIssuer(key) as issuer:
        issuers = trusting(issuer.issuer, min_interval_s=0.1)
        async with issuers.running(wait_s=10):
            token = issuer.token(key, header=header)
            assert (await issuers.authenticate(token) is not None) is accepted

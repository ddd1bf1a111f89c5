"""Every operation, asked with tokens of an issuer: as with API keys; and with credentials that are refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from itertools import cycle
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from services.gateway.authentication import api_keys
from services.gateway.authentication.operations import OPERATIONS
from services.gateway.authentication.roles import Role, Scope
from services.gateway.limits import Limits
from services.infrastructure.postgres import pool_of
from tests.access_matrix import Caller, World, create_world, wrong_answer
from tests.gateways import gateway
from tests.installation import Api, Installation
from tests.integration.test_oidc_tokens import forgeries
from tests.oidc_provider import EDITOR, OidcProvider, trusting

ELSEWHERE = (ip_network("192.0.2.0/24"),)
UNLIMITED = Limits(requests_per_key=1_000_000, requests_per_account=1_000_000)


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OidcProvider]:
    with OidcProvider(tmp_path_factory.mktemp("oidc")) as provider:
        yield provider


@pytest.fixture
async def world(installation: Installation) -> World:
    return await create_world(installation)


def _grant(kind: str, role: Role, scope: Scope) -> dict[str, Any]:
    ids = {name: getattr(scope, name) for name in ("account", "channel", "provider")}
    given = {name: value for name, value in ids.items() if value is not None}
    return {"claims": {"groups": f"{kind}-{role}"}, "roles": [role], "scope": kind, **given}


@asynccontextmanager
async def _gateway(
    installation: Installation, provider: OidcProvider, grants: list[dict[str, Any]], account: str
) -> AsyncIterator[Api]:
    issuers = trusting(provider.issuer, grants=grants, min_interval_s=0.1)
    async with issuers.running(wait_s=10), gateway(installation, account, UNLIMITED, issuers=issuers) as (api, _):
        yield api


@pytest.mark.timeout(300)
async def test_every_operation_by_a_token_of_every_role_in_every_scope(
    installation: Installation, world: World, provider: OidcProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each on one of the three channels, in turns: that roles and scopes mean the same, keys show on all of them."""
    monkeypatch.setenv("SWITCHBOARD_KAFKA_BOOTSTRAP_SERVERS", installation.bootstrap_servers)  # which audits read
    rows = [(kind, role) for kind in world.scopes() for role in Role]
    grants = [_grant(kind, role, world.scopes()[kind]) for kind, role in rows]
    channels = cycle(world.channels)
    turns = asyncio.Semaphore(4)

    async def ask(caller: Caller, operation: str, kind: str, role: Role, channel: str) -> str | None:
        async with turns:
            return await wrong_answer(caller, operation, kind, role, channel, world)

    async with _gateway(installation, provider, grants, world.account) as api:
        tokens = {row: await provider.token("-".join(row), groups=["-".join(row)]) for row in rows}
        account = {kind: world.account if kind == "platform" else None for kind in world.scopes()}
        callers = {row: Caller(api.session, tokens[row], account[row[0]], row[1]) for row in rows}
        answers = [
            ask(callers[kind, role], operation, kind, role, next(channels))
            for kind, role in rows
            for operation in OPERATIONS
        ]
        assert [wrong for wrong in await asyncio.gather(*answers) if wrong is not None] == []


async def test_every_operation_refuses_every_credential_that_is_not_valid(
    installation: Installation, world: World, provider: OidcProvider
) -> None:
    """In turns: no operation looks at a credential itself, so each sees one, and each credential some operations."""
    now = int(time.time())
    own = RSAKey.generate_key(2048)
    rotated_away = await provider.token("alice", **EDITOR)
    await asyncio.to_thread(provider.rotate)
    refused = await forgeries(provider) | {
        "none": "",
        "unknown key": f"sb_abcd1234_{'x' * 43}",
        "expired": await provider.token("alice", **EDITOR, exp=now - 60),
        "not yet valid": await provider.token("alice", **EDITOR, nbf=now + 60),
        "wrong audience": await provider.token("alice", audience="another", **EDITOR),
        "wrong issuer": await provider.token("alice", **EDITOR, iss="https://another.example"),
        "not mapped": await provider.token("alice", groups=["strangers"]),
        "unknown issuer": jwt.encode({"alg": "RS256"}, {"iss": "https://another.example", "exp": now + 60}, own),
        "rotated away": rotated_away,
        **await _refused_keys(installation, world),
    }
    grants = [{"claims": {"groups": "editors"}, "roles": list(Role), "account": world.account}]
    async with _gateway(installation, provider, grants, world.account) as api:
        valid = Caller(api.session, await provider.token("alice", **EDITOR), None, None)
        assert (await valid("GET /v1/channels", world.channel)).status == 200
        kinds = cycle(refused)
        asked = [(operation, next(kinds)) for operation in OPERATIONS]
        shown = {}
        for operation, kind in asked:
            answer = await Caller(api.session, refused[kind], None, None)(operation, world.channel)
            headers = sorted(name for name in answer.headers if name != "X-Request-Id")
            shown[operation, kind] = answer.status, answer.body, headers
    assert {kind for _, kind in asked} == refused.keys()
    first = next(iter(shown.values()))
    assert (first[0], first[1]["type"]) == (401, "urn:switchboard:problem:Unauthenticated")
    assert shown == dict.fromkeys(shown, first)


async def _refused_keys(installation: Installation, world: World) -> dict[str, str]:
    pool = await pool_of(installation.settings, size=1)
    try:
        scope = Scope(world.account)
        revoked = await api_keys.create(pool, label="revoked", scope=scope)
        assert await api_keys.revoke(pool, api_keys.key_id_of(revoked)) is not None
        return {
            "revoked key": revoked,
            "key from another network": await api_keys.create(pool, label="away", scope=scope, networks=ELSEWHERE),
            "wrong secret": (await api_keys.create(pool, label="wrong", scope=scope))[:-43] + "x" * 43,
        }
    finally:
        await pool.close()

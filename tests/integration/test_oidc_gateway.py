"""Tokens at a gateway: beside API keys, in the audit, in streams, and not in the log."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.gateway.authentication.oidc.tokens import TrustedIssuers
from tests.gateways import gateway
from tests.installation import Answer, Api, Installation, fresh
from tests.oidc_provider import EDITOR, OidcProvider, trusting
from tests.patience import PATIENCE_S

SHOP = {"channel_type": "whatsapp", "name": "Shop", "enterprise_authenticated": True}


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OidcProvider]:
    with OidcProvider(tmp_path_factory.mktemp("oidc")) as provider:
        yield provider


@pytest.fixture
async def issuers(provider: OidcProvider) -> AsyncIterator[TrustedIssuers]:
    issuers = trusting(provider.issuer, min_interval_s=0.2)
    async with issuers.running(wait_s=10):
        yield issuers


@pytest.fixture
async def api(installation: Installation, issuers: TrustedIssuers) -> AsyncIterator[Api]:
    """With an API key, which each request may replace."""
    async with gateway(installation, fresh("acct"), issuers=issuers) as (api, _):
        yield api


async def ask(api: Api, token: str | None, method: str, path: str, body: object = None) -> Answer:
    return await api(method, path, body, headers={"Authorization": "" if token is None else f"Bearer {token}"})


async def tenant_token(provider: OidcProvider, account: str, **claims: Any) -> str:
    return await provider.token("tina", name="Tina", groups=["tenants"], tenant=account, **claims)


async def test_every_refused_credential_gets_the_same_answer(api: Api, provider: OidcProvider) -> None:
    now = int(time.time())
    real = await provider.token("alice", **EDITOR)
    assert (await ask(api, real, "GET", "channels")).status == 200
    refused = {
        "none": None,
        "unknown key": f"sb_abcd1234_{'x' * 43}",
        "expired": await provider.token("alice", **EDITOR, exp=now - 60),
        "not yet valid": await provider.token("alice", **EDITOR, nbf=now + 60),
        "wrong audience": await provider.token("alice", audience="another", **EDITOR),
        "wrong issuer": await provider.token("alice", **EDITOR, iss="https://another.example"),
        "not mapped": await provider.token("alice", groups=["strangers"]),
        "not signed": f"{real.rpartition('.')[0]}.",
        "no token": "a.b.c",
    }
    answers = {name: await ask(api, token, "GET", "channels") for name, token in refused.items()}
    shown = {
        name: (answer.status, answer.body, sorted(header for header in answer.headers if header != "X-Request-Id"))
        for name, answer in answers.items()
    }
    assert shown == dict.fromkeys(refused, shown["none"])
    assert shown["none"][0] == 401
    assert shown["none"][1]["type"] == "urn:switchboard:problem:Unauthenticated"


async def test_a_command_names_the_subject_and_its_issuer(
    installation: Installation, api: Api, provider: OidcProvider
) -> None:
    account, channel = fresh("acct"), fresh("ch")
    async with installation.api(None, **{"Switchboard-Account": account}) as platform:
        assert (await platform("PUT", f"channels/{channel}", SHOP)).status == 201
    token = await tenant_token(provider, account)
    assert (await ask(api, token, "PUT", f"channels/{channel}/sms", {"enabled": True})).status == 200
    assert (await ask(api, token, "DELETE", f"channels/{channel}?confirm={channel}")).status == 403  # no administrator
    assert (await ask(api, token, "POST", "api-keys", {"label": "k", "roles": ["editor"]})).status == 403
    async with installation.api(account) as own:
        entry = (await own("GET", f"audit/log?channel={channel}")).body["entries"][-1]
    assert (entry["actor"], entry["origin"]["actorname"]) == (f"{provider.issuer}#tina", "Tina")


async def test_a_stream_ends_with_its_token(api: Api, provider: OidcProvider) -> None:
    ends_at = int(time.time()) + 2
    token = await tenant_token(provider, fresh("acct"), exp=ends_at - 5)  # 5 s of skew
    headers = {"Authorization": f"Bearer {token}"}
    streaming = api.session.get("changes", headers=headers | {"Accept": "text/event-stream"})
    polling = api("GET", "changes?wait=30", headers=headers)

    async def read() -> int:
        async with streaming as response:
            await response.content.read()
            return response.status

    async with asyncio.timeout(PATIENCE_S):
        status, polled = await asyncio.gather(read(), polling)
    assert (status, polled.status) == (200, 401)
    assert time.time() >= ends_at - 0.1


async def test_keys_go_on_while_an_issuer_is_away(installation: Installation, tmp_path: Path) -> None:
    provider = OidcProvider(tmp_path)
    with provider:
        token = await provider.token("alice", **EDITOR)
    issuers = trusting(provider.issuer, min_interval_s=0.1)
    async with issuers.running(wait_s=5), gateway(installation, fresh("acct"), issuers=issuers) as (api, _):
        away = await ask(api, token, "GET", "channels")
        assert (away.status, away.headers["Retry-After"]) == (503, "5")
        assert away.body["type"] == "urn:switchboard:problem:IssuerUnavailable"
        assert (await api("GET", "channels")).status == 200
        with provider:
            token = await provider.token("alice", **EDITOR)
            async with asyncio.timeout(PATIENCE_S):
                while (await ask(api, token, "GET", "channels")).status == 503:  # noqa: ASYNC110 -- as a client would
                    await asyncio.sleep(0.05)
            assert (await ask(api, token, "GET", "channels")).status == 200


async def test_no_request_fails_while_the_key_is_rotated(installation: Installation, tmp_path: Path) -> None:
    with OidcProvider(tmp_path) as provider:
        issuers = trusting(provider.issuer, min_interval_s=0.5)
        async with issuers.running(wait_s=10), gateway(installation, fresh("acct"), issuers=issuers) as (api, _):
            token: str | None = await provider.token("alice", **EDITOR)
            statuses: list[int] = []
            rotated = False

            async def requests(*, with_key: bool) -> None:
                while not rotated:
                    sent = token
                    if with_key:
                        statuses.append((await api("GET", "channels")).status)
                    elif sent is not None:
                        answer = await ask(api, sent, "GET", "channels")
                        if sent is token:
                            statuses.append(answer.status)
                    await asyncio.sleep(0.005)

            running = [asyncio.create_task(requests(with_key=number < 2)) for number in range(6)]
            for _ in range(2):
                token = None  # the mock withdraws the key of earlier tokens at once
                await asyncio.to_thread(provider.rotate)
                token = await provider.token("alice", **EDITOR)
                await asyncio.sleep(0.5)
            rotated = True
            await asyncio.gather(*running)
            assert set(statuses) == {200}
            assert len(statuses) > 100


async def test_a_token_is_in_no_log(
    installation: Installation, provider: OidcProvider, issuers: TrustedIssuers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    account = fresh("acct")
    async with gateway(installation, account, issuers=issuers) as (api, _):
        tokens = [
            await tenant_token(provider, account),
            await provider.token("alice"),
            await provider.token("alice", **EDITOR, exp=1),
        ]
        for token in tokens:
            await ask(api, token, "GET", "channels")
            await ask(api, token, "PUT", "channels/none/sms", {"enabled": True})
            await ask(api, token, "POST", "none")
    said = caplog.text + "".join(str(record.__dict__) for record in caplog.records)
    assert said
    for token in tokens:
        for part in token.split(".")[1:]:
            assert part not in said

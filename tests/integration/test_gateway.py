"""The HTTP API on a running Switchboard: a command's response is its outcome, and callers read their own writes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from contracts.sealing import SealKey
from services.cli.service_child import Child
from services.gateway import commands
from services.infrastructure.embedded.process import free_port
from tests.gateways import gateway
from tests.installation import Api, Installation, fresh

WHATSAPP = {"channel_type": "whatsapp", "name": "Shop", "enterprise_authenticated": True}
CRM = {"name": "CRM", "api_request_url": "https://crm.example/hook"}


@pytest.fixture
async def channel(installation: Installation) -> str:
    """A WhatsApp channel of acme, at version 1."""
    name = fresh("http")
    async with installation.api(None, **{"Switchboard-Account": "acme"}) as platform:
        assert (await platform("PUT", f"channels/{name}", WHATSAPP)).status == 201
    return name


@pytest.fixture
async def api(installation: Installation) -> AsyncIterator[Api]:
    async with installation.api("acme") as api:
        yield api


async def test_every_resource_by_its_route(api: Api, channel: str) -> None:
    at = f"channels/{channel}"
    system, intent = f"{at}/business-systems/crm", f"{at}/business-systems/crm/intents/ORDER"

    assert (await api("PUT", system, CRM)).body["version"] == 3
    assert (await api("PATCH", system, {"remarks": "ours"})).body["version"] == 4
    added = await api("PUT", intent, {"name": "Order", "default_data": {"order": "1"}})
    assert (added.status, added.body["version"]) == (201, 5)
    assert (await api("PATCH", intent, {"name": "Order state"})).body["version"] == 6
    assert (await api("PUT", f"{at}/sms", {"enabled": True})).body["version"] == 7
    form = {"enabled": True, "countries": ["IN", "ID", "IN"], "use_own_numbers": False}
    saved = await api("PUT", f"{at}/otp-scheduling", form)
    assert saved.body["version"] == 8
    guard = {"mode": "monitor", "max_rate": None, "daily_messages_per_country": 100}
    assert (await api("PUT", f"{at}/spend-guard", guard)).body["version"] == 9

    settings = (await api("GET", f"{at}/settings?min_version=9")).body
    one = settings["business_systems"][0]
    assert settings == {
        "channel": channel,
        "account": "acme",
        "channel_type": "whatsapp",
        "name": "Shop",
        "provider": None,
        "retired": False,
        "home_country": None,
        "international_rates_from": None,
        "version": 9,
        "business_systems": [
            {
                "system": "crm",
                **CRM,
                "remarks": "ours",
                "signature_style": "standard-webhooks",
                "disabled": False,
                "signatures": one["signatures"],
                "intents": [
                    {
                        "code": "ORDER",
                        "name": "Order state",
                        "default_data": {"order": "1"},
                        "schema": None,
                        "templates": [],
                    }
                ],
            }
        ],
        "sms": {"enabled": True},
        "otp_scheduling": {"enabled": True, "countries": ["ID", "IN"], "use_own_numbers": False},
        "spend_guard": guard,
        "approvals": {"required_for": []},
    }
    assert [signature["valid_until"] for signature in one["signatures"]] == [None]
    assert (await api("GET", system)).body == one
    assert (await api("GET", intent)).body == one["intents"][0]
    assert (await api("GET", f"{at}/sms")).body == settings["sms"]
    assert (await api("GET", f"{at}/otp-scheduling")).body == settings["otp_scheduling"]
    assert (await api("GET", f"{at}/spend-guard")).body == settings["spend_guard"]

    assert (await api("DELETE", intent)).body["version"] == 10
    deleted = await api("DELETE", system)
    assert deleted.body["version"] == 11
    assert (await api("GET", f"{at}/business-systems?min_version=11")).body == {"business_systems": []}
    assert (await api("DELETE", f"{at}?confirm={channel}")).body["version"] == 12
    assert (await api("GET", f"{at}?min_version=12")).body["retired"] is True
    assert (await api("PUT", f"{at}/sms", {"enabled": False})).status == 410


async def test_idempotency_key(api: Api, channel: str) -> None:
    """A repeated request gets the same response and changes nothing; another one with the same key is refused."""
    system, key = f"channels/{channel}/business-systems/crm", {"Idempotency-Key": fresh("key")}
    await api("PUT", system, CRM)

    first = await api("POST", f"{system}/signature", {"grace_seconds": 0}, headers=key)
    again = await api("POST", f"{system}/signature", {"grace_seconds": 0}, headers=key)
    other = await api("POST", f"{system}/signature", {"grace_seconds": 5}, headers=key)

    assert first.body["signature"].startswith("whsec_")
    assert again.body == first.body
    assert (other.status, other.body["rejection"]) == (409, "CommandIdReused")
    assert first.headers["Cache-Control"] == "no-store"


async def test_etag_and_if_match(api: Api, channel: str) -> None:
    """Changes of different resources do not conflict; a stale change of the same resource is refused."""
    at = f"channels/{channel}"
    await api("PUT", f"{at}/sms", {"enabled": True})
    await api("PUT", f"{at}/business-systems/crm", CRM)
    tag = (await api("GET", f"{at}/sms?min_version=4")).headers["ETag"]

    fits = await api("PUT", f"{at}/sms", {"enabled": False}, headers={"If-Match": tag})
    stale = await api("PUT", f"{at}/sms", {"enabled": True}, headers={"If-Match": tag})

    assert tag == '"2"'
    assert (fits.status, fits.body["version"]) == (200, 5)
    assert (stale.status, stale.body["rejection"], stale.body["version"]) == (412, "VersionConflict", 5)


async def test_a_dry_run_changes_nothing(api: Api, channel: str) -> None:
    at = f"channels/{channel}"

    dry = await api("PUT", f"{at}/sms?dry_run=true", {"enabled": True})
    real = await api("PUT", f"{at}/sms", {"enabled": True})

    assert dry.body["would_append"] == [{"type": "SmsActivated", "data": {}}]
    assert (dry.body["version"], real.body["version"]) == (1, 2)


async def test_a_secret_is_issued_shown_and_sealed(api: Api, channel: str) -> None:
    """Issued before the system is opened and adopted by it; sealed for the caller's key if one is given."""
    system = f"channels/{channel}/business-systems/crm"
    drafts = [
        (await api("POST", f"{system}/signature", {"api_request_url": CRM["api_request_url"]})).body["signature"]
        for _ in range(2)
    ]
    await api("PUT", system, CRM)
    revealed = (await api("GET", f"{system}/signature")).body["signature"]
    mine = SealKey()
    sealed = (await api("POST", f"{system}/signature", {"seal_to": mine.seal_to})).body

    assert drafts[0] != drafts[1] == revealed
    assert "signature" not in sealed
    assert mine.open(sealed["sealed"]) not in drafts
    assert mine.open(sealed["sealed"]) == (await api("GET", f"{system}/signature")).body["signature"]


async def test_the_platform_lists_every_account(installation: Installation, api: Api, channel: str) -> None:
    async with installation.api(None) as platform:
        await platform("GET", f"channels/{channel}?min_version=1")
        everybody = (await platform("GET", "channels?limit=1000")).body["channels"]
        unnamed = await platform("PUT", f"channels/{fresh('x')}", WHATSAPP)
    mine = (await api("GET", "channels?limit=1000")).body["channels"]

    assert channel in [one["channel"] for one in everybody]
    assert channel in [one["channel"] for one in mine]
    assert {one["account"] for one in mine} == {"acme"}
    assert (unnamed.status, unnamed.body["title"]) == (400, "Account missing")


async def test_pages(api: Api, channel: str) -> None:
    await api("GET", f"channels/{channel}?min_version=1")
    pages, after = [], ""
    while True:
        page = (await api("GET", f"channels?limit=2&after={after}")).body
        pages += [one["channel"] for one in page["channels"]]
        if page["next"] is None:
            break
        after = page["next"]

    assert pages == sorted(set(pages))
    assert channel in pages


async def test_a_revoked_key_is_refused_at_once(installation: Installation, api: Api) -> None:
    from services.gateway.authentication import api_keys
    from services.infrastructure.postgres import pool_of

    token = api.session.headers["Authorization"].removeprefix("Bearer ")
    assert (await api("GET", "channels")).status == 200
    pool = await pool_of(installation.settings, size=1)
    assert await api_keys.revoke(pool, token.split("_")[1])
    kept = await pool.fetchval(
        "SELECT count(*) FROM gateway.api_keys WHERE api_keys::text LIKE '%' || $1 || '%'", token
    )
    await pool.close()

    assert (await api("GET", "channels")).status == 401
    assert kept == 0


@pytest.mark.parametrize("path", ["healthz", "readyz", "docs", "openapi.json", "asyncapi", "asyncapi.json", ""])
async def test_public_routes_need_no_key(installation: Installation, api: Api, path: str) -> None:
    async with api.session.get(f"{installation.address}/{path}", headers={"Authorization": ""}) as response:
        assert response.status == 200


async def test_without_a_broker_reads_work_and_commands_get_503(
    installation: Installation, channel: str, tmp_path: Path
) -> None:
    environment = installation.environment | {
        "SWITCHBOARD_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
        "SWITCHBOARD_HTTP_PORT": str(free_port()),
    }
    address = f"http://127.0.0.1:{environment['SWITCHBOARD_HTTP_PORT']}"
    gateway = Child("gateway", environment, tmp_path / "gateway.log")
    gateway.start()
    try:
        async with aiohttp.ClientSession(address) as session:
            await _until_it_listens(session)
            async with session.get("/readyz") as response:
                assert (response.status, (await response.json())["missing"]) == (503, ["broker"])
            session.headers["Authorization"] = f"Bearer {installation.api_key('acme')}"
            async with session.get(f"/v1/channels/{channel}/settings?min_version=1") as response:
                assert response.status == 200
            async with session.put(f"/v1/channels/{channel}/sms", json={"enabled": True}) as response:
                assert response.status == 503
                assert (await response.json())["type"] == "urn:switchboard:problem:Unavailable"
            async with session.get("/v1/changes") as response:
                assert response.status == 503
    finally:
        gateway.stop()
        gateway.wait()
    assert gateway.process is not None
    assert gateway.process.returncode == 0


async def _until_it_listens(session: aiohttp.ClientSession) -> None:
    while True:
        with contextlib.suppress(aiohttp.ClientConnectionError):
            async with session.get("/healthz") as response:
                assert response.status == 200
                return
        await asyncio.sleep(0.1)


@pytest.mark.parametrize(("headers", "says"), [({}, "reveal the signature"), ({"Idempotency-Key": "k"}, "Repeat")])
async def test_a_secret_whose_outcome_does_not_arrive_in_time(
    installation: Installation, channel: str, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], says: str
) -> None:
    """Without an Idempotency-Key nobody can open its outcome: sending it again would be another command."""
    monkeypatch.setattr(commands, "OUTCOME_TIMEOUT_S", 0)
    async with gateway(installation, "acme") as (api, _):
        answer = await api(
            "POST",
            f"channels/{channel}/business-systems/crm/signature",
            {"api_request_url": CRM["api_request_url"]},
            headers=headers,
        )

    assert (answer.status, answer.body["title"]) == (504, "Outcome timeout")
    assert says in answer.body["detail"]

"""The access log over HTTP and on the command line: what is in it, who sees it, and that it tells no secret."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contracts.envelope import CONTENT_TYPE
from services.gateway import application as application_module
from services.gateway.authentication import api_keys
from services.gateway.authentication.refusals import Refusals
from services.gateway.authentication.roles import Role, Scope
from services.infrastructure.postgres import Pool, pool_of
from tests.access_records import published_records
from tests.commands import command
from tests.gateways import gateway
from tests.installation import Api, Installation, fresh
from tests.patience import PATIENCE_S

SHOP = {"channel_type": "whatsapp", "name": "Shop", "enterprise_authenticated": True}
HOOK = {"api_request_url": "https://crm.example/hook"}


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway whose refusals are written when the test says so, and a client of an account with a channel."""

    api: Api
    pool: Pool
    refusals: Refusals
    account: str
    channel: str

    async def records(self, api: Api | None = None, query: str = "") -> list[dict[str, Any]]:
        await self.refusals.write(self.pool)
        answer = await (api or self.api)("GET", f"access-log{query}")
        assert answer.status == 200, answer.body
        records: list[dict[str, Any]] = answer.body["records"]
        return records

    async def key(self, *roles: Role, scope: Scope | None = None) -> dict[str, str]:
        """The header of a new key, by default of the account."""
        scope = scope or Scope(self.account)
        token = await api_keys.create(self.pool, label="made", scope=scope, roles=frozenset(roles or Role))
        return {"Authorization": f"Bearer {token}"}


@pytest.fixture
async def own(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gateway]:
    refusals, account, channel = Refusals(), fresh("acct"), fresh("ch")
    monkeypatch.setattr(application_module, "Refusals", lambda: refusals)
    async with installation.api(None, **{"Switchboard-Account": account}) as platform:
        registered = await platform("PUT", f"channels/{channel}", SHOP)
        assert (await platform("GET", f"channels/{channel}?min_version={registered.body['version']}")).status == 200
    pool = await pool_of(installation.settings, size=4)
    async with gateway(installation, account, pool=pool) as (api, _):
        yield Gateway(api, pool, refusals, account, channel)


def kinds(records: list[dict[str, Any]]) -> list[str]:
    return [record["type"] for record in records]


async def test_changes_of_keys_name_who_did_them_and_from_where(own: Gateway) -> None:
    headers = {"User-Agent": "shop/1.0", "X-Request-Id": "request-1"}
    made = (await own.api("POST", "api-keys", {"label": "CI", "roles": ["editor"]}, headers=headers)).body
    rotated = (await own.api("POST", f"api-keys/{made['key_id']}/rotation", {"overlap_seconds": 60})).body
    for _ in range(2):  # a second time changes nothing
        assert (await own.api("DELETE", f"api-keys/{made['key_id']}")).status == 200

    by_test, created, rotation, revoked = await own.records()

    actor = f"api-key:{by_test['data']['key_id']}"
    assert created | {"id": "", "time": ""} == {
        "specversion": "1.0",
        "id": "",
        "type": "ApiKeyCreated",
        "source": "gateway",
        "time": "",
        "accountid": own.account,
        "actor": actor,
        "actorname": "test",
        "sourceaddress": "127.0.0.1",
        "useragent": "shop/1.0",
        "requestid": "request-1",
        "datacontenttype": "application/json",
        "data": {
            "key_id": made["key_id"],
            "label": "CI",
            "roles": ["editor"],
            "scope": "account",
            "account": own.account,
            "networks": [],
            "owner": actor,
        },
    }
    assert abs(datetime.fromisoformat(created["time"]) - datetime.now(UTC)) < timedelta(minutes=1)
    assert (rotation["type"], rotation["actor"]) == ("ApiKeyRotated", actor)
    assert (rotation["data"]["replaces"], rotation["data"]["key_id"]) == (made["key_id"], rotated["key_id"])
    assert rotation["data"]["replaced_until"] > rotation["time"]
    assert (revoked["type"], revoked["data"]) == ("ApiKeyRevoked", {"key_id": made["key_id"], "label": "CI"})
    assert "actor" not in by_test  # made by the test, as by the command line


async def test_every_showing_of_a_secret_is_a_record_before_it_is_shown(own: Gateway) -> None:
    signature = f"channels/{own.channel}/business-systems/crm/signature"
    refreshed = await own.api("POST", signature, HOOK)
    revealed = await own.api("GET", signature, headers={"Idempotency-Key": fresh("key")})
    assert refreshed.status == revealed.status == 200
    again = await own.api("GET", signature, headers={"Idempotency-Key": revealed.body["command_id"]})
    assert again.status == 409  # it shows nothing, and is no record
    await own.api("GET", f"channels/{own.channel}/business-systems/crm/signatures")

    records = await own.records(query="?type=SecretShown")

    assert [(one["subject"], one["accountid"], one["data"]) for one in records] == [
        (
            own.channel,
            own.account,
            {
                "system": "crm",
                "key_id": refreshed.body["key_id"],
                "command": kind,
                "command_id": answer.body["command_id"],
            },
        )
        for kind, answer in (("RefreshSignature", refreshed), ("RevealSignature", revealed))
    ]
    assert all(one["actor"].startswith("api-key:") for one in records)
    assert not any(
        shown in json.dumps(records) for shown in (refreshed.body["signature"], refreshed.body["plain_token"])
    )

    await own.pool.execute("ALTER TABLE gateway.access_log ADD CONSTRAINT none CHECK (type <> 'SecretShown') NOT VALID")
    try:
        hidden = await own.api("GET", signature)
    finally:
        await own.pool.execute("ALTER TABLE gateway.access_log DROP CONSTRAINT none")
    assert hidden.status == 500
    assert "signature" not in hidden.body


async def test_denied_operations_are_counted_by_who_and_what(own: Gateway) -> None:
    viewer = await own.key(Role.VIEWER)
    for _ in range(3):
        assert (await own.api("PATCH", f"channels/{own.channel}", {"name": "x"}, headers=viewer)).status == 403
    assert (await own.api("GET", "api-keys", headers=viewer)).status == 403
    elsewhere = {"Switchboard-Account": "another"}
    assert (await own.api("GET", "channels", headers=elsewhere)).status == 403
    assert (await own.api("GET", "channels/unknown", headers=viewer)).status == 404  # refused to nobody in particular

    records = await own.records(query="?type=OperationDenied")

    assert [(one.get("subject"), one["data"]) for one in records] == [
        (own.channel, {"operation": "PATCH /v1/channels/{channel}", "attempts": 3}),
        (None, {"operation": "GET /v1/api-keys", "attempts": 1}),
        (None, {"operation": "GET /v1/channels", "attempts": 1}),
    ]
    assert [one["actorname"] for one in records] == ["made", "made", "test"]
    assert {one["accountid"] for one in records} == {own.account}
    assert await own.records(query="?type=OperationDenied") == records  # written once


async def test_failed_log_ons_are_seen_by_whose_key_was_named(installation: Installation, own: Gateway) -> None:
    valid = (await own.key())["Authorization"]
    key_id = api_keys.key_id_of(valid.removeprefix("Bearer "))
    wrong = f"sb_{key_id}_{'x' * 43}"
    unknown = f"sb_00000000_{'y' * 43}"
    for token in (wrong, wrong, unknown, "nonsense"):
        assert (await own.api("GET", "channels", headers={"Authorization": f"Bearer {token}"})).status == 401
    console = own.api.session._base_url.origin() / "console/log-on"  # type: ignore[union-attr]
    same_origin = {"Sec-Fetch-Site": "same-origin", "User-Agent": "browser"}
    for token in (wrong, unknown):
        async with own.api.session.post(console, data={"api_key": token}, headers=same_origin) as answer:
            assert answer.status == 422

    seen = await own.records(query="?type=LogOnFailed")

    assert [one["data"] for one in seen] == [
        {"means": "api", "key_id": key_id, "attempts": 2},
        {"means": "console", "key_id": key_id, "attempts": 1},
    ]
    assert [one["sourceaddress"] for one in seen] == ["127.0.0.1", "127.0.0.1"]
    assert seen[1]["useragent"] == "browser"
    async with installation.api(None) as platform:
        everything = (await platform("GET", "access-log?type=LogOnFailed&limit=1000")).body["records"]
    assert {"means": "api", "attempts": 2} in [one["data"] for one in everything if "accountid" not in one]
    assert seen[0] in everything
    assert not any(secret in json.dumps(everything) for secret in ("xxxx", "yyyy", "nonsense", valid[-43:]))


async def test_auditors_see_their_scope(installation: Installation, own: Gateway) -> None:
    provider, other = fresh("prov"), fresh("acct")
    of_channel = await own.key(Role.AUDITOR, scope=Scope(own.account, own.channel))
    of_provider = await own.key(Role.AUDITOR, scope=Scope(provider=provider))
    of_other = await own.key(Role.AUDITOR, scope=Scope(other))
    keeper = await own.key(Role.SIGNATURE_KEEPER)
    shown = await own.api("POST", f"channels/{own.channel}/business-systems/crm/signature", HOOK, headers=keeper)
    assert shown.status == 200

    async def seen(headers: dict[str, str]) -> list[str]:
        return kinds((await own.api("GET", "access-log", headers=headers)).body["records"])

    assert await seen({}) == ["ApiKeyCreated", "ApiKeyCreated", "ApiKeyCreated", "SecretShown"]
    assert await seen(of_channel) == ["ApiKeyCreated", "SecretShown"]
    assert await seen(of_provider) == ["ApiKeyCreated"]
    assert await seen(of_other) == ["ApiKeyCreated"]
    async with installation.api(None, **{"Switchboard-Account": other}) as platform:
        assert kinds((await platform("GET", "access-log")).body["records"]) == ["ApiKeyCreated"]
    assert (await own.api("GET", "access-log", headers=keeper)).status == 403


async def test_pages_times_and_types(installation: Installation, own: Gateway) -> None:
    for number in range(4):
        assert (await own.api("POST", "api-keys", {"label": f"k{number}", "roles": ["viewer"]})).status == 201
    everything = await own.records()
    assert [one["data"]["label"] for one in everything] == ["test", "k0", "k1", "k2", "k3"]
    pages, after = [], 0
    while after is not None:
        page = (await own.api("GET", f"access-log?limit=2&after={after}")).body
        pages.append(page["records"])
        after = page["next"]
    assert [len(page) for page in pages] == [2, 2, 1]
    assert [one for page in pages for one in page] == everything
    middle = everything[2]["time"]
    since, until = await own.records(query=f"?since={middle}"), await own.records(query=f"?until={middle}")
    assert (until + since, since[0]["time"]) == (everything, middle)
    assert await own.records(query="?type=ApiKeyRevoked&type=SecretShown") == []
    refused = await own.api("GET", "access-log?type=Nothing")
    assert (refused.status, "'SecretShown'" in refused.body["detail"]) == (400, True)

    said = await command(installation, "access-log", "--account", own.account)
    assert said.lines == everything
    said = await command(installation, "access-log", "--account", own.account, "--until", middle)
    assert said.lines == until
    said = await command(installation, "access-log", "--account", own.account, "--type", "ApiKeyRevoked")
    assert said.out == ""
    for option, value in (("--type", "Nothing"), ("--since", "yesterday"), ("--account", "no id")):
        said = await command(installation, "access-log", option, value)
        assert (said.code, option.lstrip("-") in said.err) == (2, True), said


async def test_the_command_line_is_named_with_its_user(installation: Installation, own: Gateway) -> None:
    made = await command(installation, "api-keys", "create", "--label", "x", "--account", own.account)
    key_id = api_keys.key_id_of(made.out.strip())
    await command(installation, "api-keys", "revoke", key_id)
    created, revoked = (await own.records())[1:]
    assert (created["data"]["key_id"], revoked["data"]["key_id"]) == (key_id, key_id)
    assert created["actorname"] == revoked["actorname"] != ""
    assert "actor" not in created | revoked


async def test_the_gateway_publishes_the_log(installation: Installation) -> None:
    """With the rights that it has on the broker, under the account's key, each record as HTTP shows it."""
    account = fresh("acct")
    async with installation.api(account) as api:
        assert (await api("POST", "api-keys", {"label": "CI", "roles": ["editor"]})).status == 201
        expected = (await api("GET", "access-log")).body["records"]
    found: list[Any] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(found) < len(expected):
            found = await published_records(installation.bootstrap_servers, account)
    assert [json.loads(record.value) for record in found] == expected
    assert [dict(record.headers) for record in found] == [dict([CONTENT_TYPE])] * 2

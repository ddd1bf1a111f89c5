"""API keys over HTTP and on the command line: shown once, never stronger than their maker, rotated, revoked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import aiohttp
import pytest

from services.gateway.authentication import api_keys
from services.gateway.authentication.api_key_limit import MAX_KEYS
from services.gateway.authentication.api_keys import MIGRATIONS
from services.gateway.authentication.authenticator import authenticate
from services.gateway.authentication.roles import ALL_ROLES, Role, Scope
from services.infrastructure.config import Settings
from services.infrastructure.postgres import Pool, migrate, pool_of
from tests.commands import command
from tests.installation import Answer, Api, Installation, fresh
from tests.migrations import migrate_down

CI = {"label": "CI", "roles": ["editor"]}
SHOP = {"channel_type": "whatsapp", "name": "Shop", "enterprise_authenticated": True}


@pytest.fixture
async def account() -> str:
    return fresh("acct")


@pytest.fixture
async def api(installation: Installation, account: str) -> AsyncIterator[Api]:
    async with installation.api(account) as api:
        yield api


async def ask(api: Api, token: str, method: str, path: str, body: object = None) -> Answer:
    return await api(method, path, body, headers={"Authorization": f"Bearer {token}"})


async def test_a_key_is_shown_once_and_works(api: Api, account: str) -> None:
    made = await api("POST", "api-keys", CI)
    token = made.body.pop("token")
    assert made.status == 201
    assert made.headers["Cache-Control"] == "no-store"
    assert made.body | {"key_id": "", "created_at": "", "created_by": "", "owner": ""} == CI | {
        "key_id": "",
        "scope": "account",
        "account": account,
        "channel": None,
        "provider": None,
        "networks": [],
        "created_at": "",
        "created_by": "",
        "owner": "",
        "replaces": None,
        "expires_at": None,
        "last_used_at": None,
        "revoked_at": None,
    }
    assert (await ask(api, token, "GET", "channels")).status == 200
    listed = (await api("GET", "api-keys")).body["api_keys"]
    assert token not in json.dumps(listed)
    used = next(key for key in listed if key["key_id"] == made.body["key_id"])["last_used_at"]
    assert used[13:] == ":00:00.000Z"
    assert abs(datetime.fromisoformat(used) - datetime.now(UTC)) < timedelta(hours=1, minutes=1)


@pytest.mark.parametrize(
    ("beyond", "what"),
    [
        ({"roles": ["administrator", "auditor"]}, "these roles go beyond"),
        ({"scope": "platform"}, "this scope goes beyond"),
        ({"scope": "provider", "provider": "p"}, "this scope goes beyond"),
        ({"account": "another"}, "this scope goes beyond"),
        ({"expires_at": None}, "this time goes beyond"),
        ({"expires_at": "2999-01-01T00:00:00Z"}, "this time goes beyond"),
        ({"networks": []}, "these networks go beyond"),
        ({"networks": ["0.0.0.0/0"]}, "these networks go beyond"),
        ({"networks": ["127.0.0.1/32", "::1/128"]}, "these networks go beyond"),
    ],
)
async def test_a_key_never_makes_a_stronger_one(api: Api, beyond: dict[str, Any], what: str) -> None:
    limits = {"networks": ["127.0.0.0/8"], "expires_at": "2900-01-01T00:00:00Z"}
    keeper = {"label": "k", "roles": ["administrator", "editor"], **limits}
    token = (await api("POST", "api-keys", keeper)).body["token"]
    within = {"label": "w", "roles": ["editor", "viewer"], "networks": ["127.0.0.1/32"]}
    within["expires_at"] = "2899-12-31T00:00:00Z"
    assert (await ask(api, token, "POST", "api-keys", within)).status == 201
    refused = await ask(api, token, "POST", "api-keys", within | beyond)
    assert (refused.status, refused.body["type"]) == (403, "urn:switchboard:problem:ApiKeyStronger")
    assert what in refused.body["detail"]


async def test_a_key_for_one_channel_makes_none_for_the_account(api: Api, account: str) -> None:
    narrow = {"label": "n", "roles": ["administrator"], "scope": "channel", "channel": "c-1"}
    token = (await api("POST", "api-keys", narrow)).body["token"]
    wider = {"label": "w", "roles": ["administrator"]}
    assert (await ask(api, token, "POST", "api-keys", wider)).status == 403
    assert (await ask(api, token, "POST", "api-keys", narrow | {"channel": "c-2"})).status == 403
    assert (await ask(api, token, "POST", "api-keys", narrow)).status == 201
    listed = (await ask(api, token, "GET", "api-keys")).body["api_keys"]
    assert {(key["account"], key["channel"]) for key in listed} == {(account, "c-1")}


async def test_keys_of_others_look_unknown(installation: Installation, api: Api) -> None:
    async with installation.api(fresh("acct")) as other:
        theirs = (await other("POST", "api-keys", CI)).body["key_id"]
    for method, path in (("DELETE", "api-keys/{}"), ("POST", "api-keys/{}/rotation")):
        forbidden = await api(method, path.format(theirs), {} if method == "POST" else None)
        unknown = await api(method, path.format("00000000"), {} if method == "POST" else None)
        assert (forbidden.status, unknown.status) == (404, 404)
        assert str(forbidden.body).replace(theirs, "…") == str(unknown.body).replace("00000000", "…")


async def test_a_rotation_keeps_both_for_its_overlap(api: Api) -> None:
    made = (await api("POST", "api-keys", CI)).body
    new = await api("POST", f"api-keys/{made['key_id']}/rotation", {"overlap_seconds": 2})
    assert (new.status, new.body["replaces"], new.body["roles"]) == (201, made["key_id"], ["editor"])
    for token in (made["token"], new.body["token"]):
        assert (await ask(api, token, "GET", "channels")).status == 200
    await asyncio.sleep(2.1)
    assert (await ask(api, made["token"], "GET", "channels")).status == 401
    assert (await ask(api, new.body["token"], "GET", "channels")).status == 200
    again = await api("POST", f"api-keys/{made['key_id']}/rotation", {})
    assert (again.status, again.body["type"]) == (409, "urn:switchboard:problem:ApiKeyNotValid")


async def test_an_account_has_200_keys_however_made(installation: Installation, api: Api, account: str) -> None:
    old = (await api("POST", "api-keys", CI)).body["key_id"]
    pool = await pool_of(installation.settings, size=1)
    own = len((await api("GET", "api-keys")).body["api_keys"])
    await pool.execute(
        "INSERT INTO gateway.api_keys (key_id, token_sha256, roles, scope, account, label) "
        "SELECT substr(md5($1 || number), 1, 8), sha256(($1 || number)::bytea), $3, 'account', $1, 'many' "
        "FROM generate_series(1, $2::int) AS number",
        account,
        MAX_KEYS - 1 - own,
        ["viewer"],
    )
    await pool.close()

    rotate, create = f"api-keys/{old}/rotation", "api-keys"
    made = await asyncio.gather(
        *(api("POST", path, CI if path == create else {}) for path in (rotate, create, rotate, create))
    )
    after = [await api("POST", rotate, {}), await api("POST", create, CI)]

    assert sorted(answer.status for answer in made) == [201, 409, 409, 409]
    assert {answer.body["type"] for answer in after} == {"urn:switchboard:problem:TooManyApiKeys"}


async def test_a_revocation_ends_streams_and_waiting_requests(
    installation: Installation, api: Api, account: str
) -> None:
    channel = fresh("ch")
    async with installation.api(None, **{"Switchboard-Account": account}) as platform:
        assert (await platform("PUT", f"channels/{channel}", SHOP)).status == 201
    made = (await api("POST", "api-keys", CI)).body
    ended: list[str] = []

    async def wait_for(path: str, accept: str) -> int:
        headers = {"Authorization": f"Bearer {made['token']}", "Accept": accept}
        async with api.session.get(path, headers=headers) as response:
            await response.read()
            ended.append(path)
            return response.status

    waiting = [
        asyncio.create_task(wait_for("changes?wait=30", "application/json")),
        asyncio.create_task(wait_for("changes", "text/event-stream")),
        asyncio.create_task(wait_for(f"channels/{channel}?min_version=99", "application/json")),
    ]
    await asyncio.sleep(2)
    assert not ended
    assert (await api("DELETE", f"api-keys/{made['key_id']}")).body["revoked_at"] is not None
    assert await asyncio.gather(*waiting) == [401, 200, 401]


INVALID = {
    "none": "",
    "no token of ours": "Bearer abc",
    "another scheme": "Basic YTpi",
    "an unknown key": f"Bearer sb_00000000_{'x' * 43}",
}


async def test_every_credential_that_is_not_valid_gets_the_same_answer(installation: Installation, api: Api) -> None:
    pool = await pool_of(installation.settings, size=1)
    scope = Scope("acme")
    soon = datetime.now(UTC) + timedelta(seconds=0.1)
    elsewhere = (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))
    valid = await api_keys.create(pool, label="valid", scope=scope)
    revoked = await api_keys.create(pool, label="revoked", scope=scope)
    await api_keys.revoke(pool, api_keys.key_id_of(revoked))
    given = INVALID | {
        "the wrong secret": f"Bearer {valid[:12]}{'x' * 43}",
        "revoked": f"Bearer {revoked}",
        "expired": f"Bearer {await api_keys.create(pool, label='expired', scope=scope, expires_at=soon)}",
        "from elsewhere": f"Bearer {await api_keys.create(pool, label='elsewhere', scope=scope, networks=elsewhere)}",
    }
    await pool.close()
    await asyncio.sleep(0.2)
    answers = {}
    for name, authorization in given.items():
        # X-Forwarded-For is nobody's to set: there is no trusted proxy.
        headers = {"Authorization": authorization, "X-Forwarded-For": "192.0.2.1"}
        answer = await api("GET", "channels", headers=headers)
        answers[name] = answer.status, str(answer.body), sorted(set(answer.headers) - {"date"})
    assert len(set(map(str, answers.values()))) == 1, answers
    assert answers["none"][0] == 401


async def test_the_command_line(installation: Installation, account: str) -> None:
    limits = ("--network", "127.0.0.0/8", "--expires", "2900-01-01T00:00:00Z")
    made = await command(
        installation, "api-keys", "create", "--label", "x", "--account", account, "--role", "viewer", *limits
    )
    token = made.out.strip()
    async with aiohttp.ClientSession(f"{installation.address}/v1/") as session:
        api = Api(session)
        assert (await ask(api, token, "GET", "channels")).status == 200
        assert (await ask(api, token, "GET", "api-keys")).status == 403
        key_id = api_keys.key_id_of(token)
        rotated = await command(installation, "api-keys", "rotate", key_id, "--overlap", "0")
        assert (await ask(api, token, "GET", "channels")).status == 401
        assert (await ask(api, rotated.out.strip(), "GET", "channels")).status == 200
    [newest] = (await command(installation, "api-keys", "list", "--limit", "1")).lines
    assert newest["replaces"] == key_id
    assert (newest["roles"], newest["networks"], newest["expires_at"]) == (
        ["viewer"],
        ["127.0.0.0/8"],
        "2900-01-01T00:00:00.000Z",
    )


async def test_the_migration_forth_and_back_makes_no_key_stronger(database_url: str) -> None:
    pool: Pool = await pool_of(Settings(database_url=database_url), size=1)
    await migrate(pool, "gateway", MIGRATIONS)
    full = await api_keys.create(pool, label="full", scope=Scope("acme"))
    weak = await api_keys.create(pool, label="weak", scope=Scope("acme"), roles=frozenset({Role.VIEWER}))
    await api_keys.create(pool, label="one", scope=Scope(provider="prov"))

    await migrate_down(pool, "gateway", MIGRATIONS, to="0001_api_keys")
    rows = await pool.fetch("SELECT label, role, revoked_at IS NULL AS valid FROM gateway.api_keys ORDER BY created_at")
    assert [tuple(row) for row in rows] == [
        ("full", "account", True),
        ("weak", "account", False),
        ("one", "platform", False),
    ]
    await migrate(pool, "gateway", MIGRATIONS)
    key = await authenticate(pool, full)
    assert key is not None
    assert (key.roles, key.scope) == (ALL_ROLES - {Role.DEVELOPER}, Scope("acme")), "there was no such role then"
    assert await authenticate(pool, weak) is None
    await pool.close()

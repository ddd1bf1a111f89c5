"""Undo in the console: a session may undo what its principal may send, and no more."""

from __future__ import annotations

import json

import aiohttp

from services.gateway.authentication import api_keys
from services.gateway.authentication.roles import Role, Scope
from services.infrastructure.postgres import pool_of
from tests.installation import Installation, fresh

SHOP = {"channel_type": "whatsapp", "name": "Shop", "enterprise_authenticated": True}
_NONE = {"change": "c-1", "command": {"type": "SaveApprovals", "data": {"required_for": []}}}


async def _undo(installation: Installation, channel: str, version: int, *, roles: frozenset[Role], account: str) -> int:
    """The status of the undo, by a session of a key with these roles."""
    pool = await pool_of(installation.settings, size=1)
    try:
        token = await api_keys.create(pool, label="undo", scope=Scope(account), roles=roles)
    finally:
        await pool.close()
    jar = aiohttp.CookieJar(unsafe=True)  # of an address without a name
    headers = {"Sec-Fetch-Site": "same-origin"}
    async with aiohttp.ClientSession(f"{installation.address}/console/", headers=headers, cookie_jar=jar) as session:
        async with session.post("log-on", data={"api_key": token}, allow_redirects=False) as answer:
            assert answer.status == 303
        async with session.get("form-token") as answer:
            token = json.loads(answer.headers["HX-Trigger"])["announce"]["text"]
        form = {"form_token": token, "seen": str(version)}
        undo = f"channels/{channel}/history/{version}/undo"
        async with session.post(undo, data=form, allow_redirects=False) as answer:
            return answer.status


async def test_an_undo_needs_the_roles_of_the_commands_that_it_sends(installation: Installation) -> None:
    """Approvals are an administrator's; that an editor may undo an SMS switch does not bring them back."""
    account, channel = fresh("acct"), fresh("ch")
    at = f"channels/{channel}"
    async with installation.api(None, **{"Switchboard-Account": account}) as platform:
        assert (await platform("PUT", at, SHOP)).status == 201
        assert (await platform("PUT", f"{at}/approvals", {"required_for": ["retire"]})).status == 200
        assert (await platform("POST", f"{at}/proposed-changes", _NONE)).status == 201
        async with installation.api(account) as approver:
            approved = await approver("POST", f"{at}/proposed-changes/c-1/approve", {})
        assert approved.status == 200
        version = approved.body["version"]
        assert (await platform("GET", f"{at}/approvals?min_version={version}")).body == {"required_for": []}

        assert await _undo(installation, channel, version, roles=frozenset({Role.EDITOR}), account=account) == 403
        assert (await platform("GET", f"{at}/approvals")).body == {"required_for": []}
        both = frozenset({Role.EDITOR, Role.ADMINISTRATOR})
        assert await _undo(installation, channel, version, roles=both, account=account) == 303
        assert (await platform("GET", f"{at}/approvals")).body == {"required_for": ["retire"]}

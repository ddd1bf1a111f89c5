"""The console's page of one request: whatever id it is asked about, it answers with a page and no fault."""

from __future__ import annotations

from http import HTTPStatus

import aiohttp

from contracts.ids import uuid7
from tests.installation import Installation, fresh

SHOP = {"channel_type": "whatsapp", "name": "Shop", "enterprise_authenticated": True}


async def test_an_id_of_any_time_has_a_page_and_one_that_no_text_can_be_has_none(installation: Installation) -> None:
    account, channel, latest = fresh("acct"), fresh("ch"), uuid7(2**48 - 1, bytes(10))
    async with installation.api(None, **{"Switchboard-Account": account}) as platform:
        assert (await platform("PUT", f"channels/{channel}", SHOP)).status == 201
    async with installation.api(account) as api:
        enabled = {"enabled": True}
        saved = await api("PUT", f"channels/{channel}/sms", enabled, headers={"Idempotency-Key": latest})
        version = saved.body["version"]
        assert (await api("GET", f"channels/{channel}/history?min_version={version}")).status == 200

    jar = aiohttp.CookieJar(unsafe=True)  # of an address without a name
    headers = {"Sec-Fetch-Site": "same-origin"}
    async with aiohttp.ClientSession(f"{installation.address}/console/", headers=headers, cookie_jar=jar) as session:
        form = {"api_key": installation.api_key(account)}
        async with session.post("log-on", data=form, allow_redirects=False) as answer:
            assert answer.status == HTTPStatus.SEE_OTHER
        statuses = {}
        for asked in (f"traces/{latest}", "traces/unheard-of", "traces/%00", "history?actor=%00"):
            async with session.get(f"channels/{channel}/{asked}") as answer:
                statuses[asked] = answer.status
    assert list(statuses.values()) == [HTTPStatus.OK, HTTPStatus.NOT_FOUND, *[HTTPStatus.BAD_REQUEST] * 2], statuses

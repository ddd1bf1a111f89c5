"""What a read's ETag says, `If-Match` compares; and what is left to read of a retired channel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.installation import Answer, Api, Installation, fresh

WHATSAPP = {"channel_type": "whatsapp", "name": "Shop", "enterprise_authenticated": True}
CRM = {"name": "CRM", "api_request_url": "https://crm.example/hook"}
ORDER = {"name": "Order", "default_data": {}}


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


async def test_an_etag_that_was_just_read_is_accepted(api: Api, channel: str) -> None:
    """Of an intent below a changed system, of a system above a deleted intent, and of lists."""
    at = f"channels/{channel}"
    system, intents = f"{at}/business-systems/crm", f"{at}/business-systems/crm/intents"
    done = await api("PUT", system, CRM)

    async def changed(done: Answer) -> int:
        assert done.status < 300, done.body
        return int(done.body["version"])

    async def if_match(read: str, method: str, path: str, body: Any = None) -> Answer:
        tag = (await api("GET", f"{read}?min_version={version}")).headers["ETag"]
        return await api(method, path, body, headers={"If-Match": tag})

    version = await changed(done)
    version = await changed(await api("PUT", f"{intents}/ORDER", ORDER))
    version = await changed(await api("PATCH", system, {"remarks": "x"}))
    version = await changed(await if_match(f"{intents}/ORDER", "PATCH", f"{intents}/ORDER", {"name": "Orders"}))
    version = await changed(await api("DELETE", f"{intents}/ORDER"))
    version = await changed(await if_match(system, "PATCH", system, {"remarks": "y"}))
    version = await changed(await if_match(intents, "PUT", f"{intents}/ORDER", ORDER))
    version = await changed(await if_match(f"{system}/signatures", "POST", f"{system}/signature", {}))
    version = await changed(await if_match(system, "DELETE", system))
    version = await changed(await if_match(f"{at}/business-systems", "PUT", system, CRM))
    stale = await api("PUT", f"{intents}/ORDER", ORDER, headers={"If-Match": f'"{version - 2}"'})
    assert stale.status == 412


async def test_a_retired_channel_shows_what_it_had(api: Api, channel: str) -> None:
    """Everything but signatures, now and at a version, and the audit says the same."""
    at = f"channels/{channel}"
    await api("PUT", f"{at}/business-systems/crm", CRM)
    await api("PUT", f"{at}/business-systems/crm/intents/ORDER", ORDER)
    before = (await api("GET", f"{at}/settings?min_version=4")).body
    retired = await api("DELETE", f"{at}?confirm={channel}")
    after = (await api("GET", f"{at}/settings?min_version={retired.body['version']}")).body

    assert before["business_systems"][0]["signatures"]
    before["business_systems"][0]["signatures"] = []
    assert after == before | {"retired": True, "version": 5}
    assert (await api("GET", f"{at}/settings?at=5")).body == after
    key_id = "k1"
    answer = await api("POST", f"{at}/business-systems/crm/signature/{key_id}/retirement")
    assert (answer.status, answer.body["type"]) == (410, "urn:switchboard:problem:ChannelIsRetired")

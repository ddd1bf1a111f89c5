"""Customers of a provider: who they are, who differs, sections saved on many channels, and nothing of anybody else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import asyncpg
import pytest

from services.gateway.authentication import api_keys
from services.gateway.authentication.roles import ALL_ROLES, Role, Scope
from services.infrastructure.postgres import pool_of
from tests.counting_connection import CountingConnection
from tests.gateways import gateway
from tests.installation import Answer, Api, Installation, fresh

SHOP = {"channel_type": "whatsapp", "name": "Shop", "enterprise_authenticated": True}


@dataclass(frozen=True, slots=True)
class World:
    """``one`` and ``two`` are channels of an account, ``three`` is of another; these name the provider.

    ``beside`` is of the first account and names another provider, ``elsewhere`` is of a third account.
    """

    accounts: tuple[str, str, str]
    provider: str
    one: str
    two: str
    beside: str
    three: str
    elsewhere: str


@pytest.fixture
async def world(installation: Installation) -> World:
    accounts = tuple(sorted(fresh("acct") for _ in range(3)))
    channels = sorted(fresh("ch") for _ in range(5))
    world = World((accounts[0], accounts[1], accounts[2]), fresh("prov"), *channels)
    providers = {world.beside: fresh("prov"), world.elsewhere: None}
    owned = {accounts[0]: channels[:3], accounts[1]: [world.three], accounts[2]: [world.elsewhere]}
    for account, own in owned.items():
        async with installation.api(None, **{"Switchboard-Account": account}) as platform:
            for channel in own:
                provider = {"provider": providers.get(channel, world.provider)}
                assert (await platform("PUT", f"channels/{channel}", SHOP | provider)).status == 201
                assert (await platform("GET", f"channels/{channel}?min_version=1")).status == 200
    return world


async def key(installation: Installation, scope: Scope, roles: frozenset[Role] = ALL_ROLES) -> dict[str, str]:
    pool = await pool_of(installation.settings, size=1)
    try:
        token = await api_keys.create(pool, label="test", scope=scope, roles=roles)
    finally:
        await pool.close()
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
async def provider(installation: Installation, world: World) -> AsyncIterator[Api]:
    headers = await key(installation, Scope(provider=world.provider))
    async with aiohttp.ClientSession(f"{installation.address}/v1/", headers=headers) as session:
        yield Api(session)


def problem(answer: dict[str, Any]) -> str:
    return str(answer["type"]).rpartition(":")[2]


def channels_of(answer: Answer) -> dict[str, list[str]]:
    return {one["account"]: [channel["channel"] for channel in one["channels"]] for one in answer.body["customers"]}


def differing(answer: Answer) -> dict[str, list[str]]:
    return {one["channel"]: one["differs"] for customer in answer.body["customers"] for one in customer["channels"]}


async def test_a_provider_sees_its_customers_and_nobody_else(
    installation: Installation, world: World, provider: Api
) -> None:
    found = await provider("GET", "customers")
    first, second, third = world.accounts
    assert channels_of(found) == {first: [world.one, world.two], second: [world.three]}
    assert found.body["customers"][0]["channels"][0] == {
        "channel": world.one,
        "channel_type": "whatsapp",
        "name": "Shop",
        "retired": False,
        "version": 1,
    }
    assert (await provider("DELETE", f"channels/{world.two}?confirm={world.two}")).status == 200
    await provider("GET", f"channels/{world.two}?min_version=2")
    counts = (await provider("GET", "customers")).body["customers"]
    assert [(one["channel_count"], one["retired_count"]) for one in counts] == [(2, 1), (1, 0)]

    one_account = await provider("GET", "customers", headers={"Switchboard-Account": second})
    assert channels_of(one_account) == {second: [world.three]}
    async with installation.api(first) as account:
        assert channels_of(await account("GET", "customers")) == {first: [world.one, world.two, world.beside]}
    narrow = await key(installation, Scope(first, world.beside))
    assert channels_of(await provider("GET", "customers", headers=narrow)) == {first: [world.beside]}
    async with installation.api(None, **{"Switchboard-Account": third}) as platform:
        assert channels_of(await platform("GET", "customers")) == {third: [world.elsewhere]}


async def test_pages_go_on_within_an_account(world: World, provider: Api) -> None:
    seen, after, counts = [], "", []
    while after is not None:
        page = await provider("GET", "customers", params={"limit": "1", "after": after})
        seen += [channel for own in channels_of(page).values() for channel in own]
        counts += [one["channel_count"] for one in page.body["customers"]]
        after = page.body["next"]
    assert (seen, counts) == ([world.one, world.two, world.three], [2, 2, 1])
    for after in ("x", "x/", "a/b/c d"):
        assert (await provider("GET", "customers", params={"after": after})).status == 400


async def test_who_differs_gets_the_templates_sections(world: World, provider: Api) -> None:
    saved = await provider("PUT", f"channels/{world.one}/sms", {"enabled": True})
    form = {"enabled": True, "countries": ["NO", "ID"], "use_own_numbers": False}
    saved = await provider("PUT", f"channels/{world.one}/otp-scheduling", form)
    same = await provider("PUT", f"channels/{world.two}/otp-scheduling", form | {"countries": ["ID", "NO"]})
    await provider("GET", f"channels/{world.one}?min_version={saved.body['version']}")
    await provider("GET", f"channels/{world.two}?min_version={same.body['version']}")
    template = f"customers?template={world.one}"
    assert differing(await provider("GET", template)) == {
        world.one: [],
        world.two: ["sms"],
        world.three: ["sms", "otp-scheduling"],
    }

    asked = {"template": world.one, "channels": [world.two, world.three, world.beside, world.three]}
    planned = await provider("POST", "customers/settings?dry_run=true", asked)
    assert [one["saved"] for one in planned.body["results"]] == [["sms"], ["sms", "otp-scheduling"], []]
    assert differing(await provider("GET", template))[world.two] == ["sms"]

    headers = {"Idempotency-Key": fresh("key")}
    done = await provider("POST", "customers/settings", asked, headers=headers)
    two, three, beside = done.body["results"]
    assert (two["channel"], two["saved"]) == (world.two, ["sms"])
    assert (three["channel"], three["saved"], three["version"]) == (world.three, ["sms", "otp-scheduling"], 3)
    assert (beside["saved"], problem(beside["problem"])) == ([], "ChannelUnknown")
    assert (await provider("POST", "customers/settings", asked, headers=headers)).body == done.body
    for one in (two, three):
        await provider("GET", f"channels/{one['channel']}?min_version={one['version']}")
    assert set(map(tuple, differing(await provider("GET", template)).values())) == {()}


async def test_business_systems_are_compared_with_their_intents_and_without_signatures(
    world: World, provider: Api
) -> None:
    crm = {"name": "CRM", "api_request_url": "https://crm.example/hook"}
    intent = {"name": "Order", "default_data": {"size": 1}}
    for channel in (world.one, world.two, world.three):
        at = f"channels/{channel}/business-systems/crm"
        assert (await provider("PUT", at, crm)).status == 201
        added = await provider("PUT", f"{at}/intents/ORDER", intent)
        assert added.status == 201
        await provider("GET", f"channels/{channel}?min_version={added.body['version']}")
    erp = await provider("PUT", f"channels/{world.three}/business-systems/erp", crm | {"name": "ERP"})
    edited = await provider(
        "PATCH", f"channels/{world.two}/business-systems/crm/intents/ORDER", {"default_data": {"size": 2}}
    )
    await provider("GET", f"channels/{world.three}?min_version={erp.body['version']}")
    await provider("GET", f"channels/{world.two}?min_version={edited.body['version']}")
    assert differing(await provider("GET", f"customers?template={world.one}")) == {
        world.one: [],
        world.two: ["business-systems/crm"],
        world.three: ["business-systems/erp"],
    }


async def test_a_refusal_on_one_channel_stops_no_other(world: World, provider: Api) -> None:
    form = {"enabled": True, "countries": ["NO"], "use_own_numbers": True, "international_rates_acknowledged": True}
    saved = await provider("PUT", f"channels/{world.one}/otp-scheduling", form)
    await provider("GET", f"channels/{world.one}?min_version={saved.body['version']}")
    await provider("DELETE", f"channels/{world.two}?confirm={world.two}")
    asked = {"template": world.one, "channels": [world.two, world.three], "sections": ["otp-scheduling"]}

    unconfirmed = (await provider("POST", "customers/settings", asked)).body["results"]
    assert [problem(one["problem"]) for one in unconfirmed] == ["ChannelIsRetired", "InternationalRatesNotAcknowledged"]
    done = await provider("POST", "customers/settings", asked | {"international_rates_acknowledged": True})
    assert [one["saved"] for one in done.body["results"]] == [[], ["otp-scheduling"]]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"channels": []}, "'channels' is wrong"),
        ({"channels": ["c"] * 101}, "'channels' is wrong"),
        ({"sections": ["business-systems"]}, "'sections"),
        ({"everything": True}, "'everything' is not a known field"),
        ({"template": "no id"}, "'template' is wrong"),
    ],
)
async def test_what_cannot_be_asked(world: World, provider: Api, change: dict[str, Any], sentence: str) -> None:
    refused = await provider("POST", "customers/settings", {"template": world.one, "channels": [world.two]} | change)
    assert (refused.status, problem(refused.body)) == (422, "SectionsInvalid")
    assert sentence in refused.body["detail"]


async def test_roles_and_versions(installation: Installation, world: World, provider: Api) -> None:
    asked = {"template": world.one, "channels": [world.two]}
    viewer = await key(installation, Scope(provider=world.provider), frozenset({Role.VIEWER}))
    assert (await provider("POST", "customers/settings", asked, headers=viewer)).status == 403
    assert (await provider("GET", "customers", headers=viewer)).status == 200
    conditional = await provider("POST", "customers/settings", asked, headers={"If-Match": '"1"'})
    assert (conditional.status, "If-Match" in conditional.body["detail"]) == (400, True)


async def test_what_is_others_looks_and_costs_like_what_is_unknown(installation: Installation, world: World) -> None:
    nowhere, nobody = fresh("ch"), fresh("acct")
    pool = await asyncpg.create_pool(
        installation.settings.database_url, min_size=1, max_size=1, connection_class=CountingConnection
    )
    headers = await key(installation, Scope(provider=world.provider))

    async with gateway(installation, world.accounts[0], pool=pool) as (api, _):

        async def look(channel: str, account: str) -> list[tuple[object, ...]]:
            seen: list[tuple[object, ...]] = []
            for method, path, body, more in (
                ("GET", f"customers?template={channel}", None, {}),
                ("GET", "customers", None, {"Switchboard-Account": account}),
                ("POST", "customers/settings", {"template": channel, "channels": [world.one]}, {}),
                ("POST", "customers/settings", {"template": world.one, "channels": [channel]}, {}),
            ):
                CountingConnection.read.clear()
                answer = await api(method, path, body, headers=headers | more)
                shown = {name: value for name, value in answer.body.items() if name != "cursor"}
                seen.append((answer.status, str(shown).replace(channel, "…"), dict(CountingConnection.read)))
            return seen

        await look(nowhere, nobody)  # the first use in an hour is noted
        unknown = await look(nowhere, nobody)
        for channel, account in ((world.elsewhere, world.accounts[2]), (world.beside, nobody)):
            assert await look(channel, account) == unknown
        assert [status for status, _, _ in unknown] == [404, 200, 404, 200]

"""An account's quota of channels, and its turns at old changes."""

from __future__ import annotations

import asyncio

import pytest

from contracts.channel import RegisterChannel
from services.gateway.authentication import api_keys
from services.gateway.authentication.roles import PLATFORM, Scope
from services.gateway.limits import Limits
from services.infrastructure.postgres import pool_of
from tests.gateways import gateway
from tests.installation import Installation, fresh

SHOP = {"channel_type": "whatsapp", "name": "Shop", "enterprise_authenticated": True}


async def bearer(installation: Installation, scope: Scope) -> dict[str, str]:
    """The header of a new API key."""
    pool = await pool_of(installation.settings, size=1)
    try:
        return {"Authorization": f"Bearer {await api_keys.create(pool, label='test', scope=scope)}"}
    finally:
        await pool.close()


async def test_the_quota_of_channels_counts_those_that_are_not_retired(installation: Installation) -> None:
    account, (first, second, third, fourth) = fresh("acct"), [fresh("ch") for _ in range(4)]
    platform = {**await bearer(installation, PLATFORM), "Switchboard-Account": account}
    async with (
        gateway(installation, account, Limits(channels_per_account=2)) as (api, _),
        installation.publisher(account) as publisher,
    ):

        async def register(channel: str) -> tuple[int, object]:
            answer = await api("PUT", f"channels/{channel}", SHOP, headers=platform)
            if answer.status == 201:
                assert (await api("GET", f"channels/{channel}?min_version=1")).status == 200
            return answer.status, answer.body.get("quota")

        assert [await register(channel) for channel in (first, second)] == [(201, None)] * 2
        assert await register(third) == (409, 2)
        assert await register(first) == (409, None)  # it is registered: that is no matter of the quota
        registered = await publisher.send(RegisterChannel.model_validate(SHOP), channel=third)
        assert registered.version == 1  # over Kafka, whose publishers act for every account, there is no quota
        for channel in (first, third):
            assert (await api("GET", f"channels/{channel}?min_version=1")).status == 200
            assert (await api("DELETE", f"channels/{channel}?confirm={channel}", headers=platform)).status == 200
            assert (await api("GET", f"channels/{channel}?min_version=2")).status == 200
        assert await register(fourth) == (201, None)


@pytest.mark.timeout(60)
async def test_polls_from_the_beginning_are_served_in_turns(installation: Installation) -> None:
    """One of an account reads old changes at a time, so that its many polls keep no other account waiting."""
    account, other = fresh("acct"), fresh("other")
    for name in (account, other):
        async with installation.publisher(name) as publisher:
            await publisher.send(RegisterChannel.model_validate(SHOP), channel=fresh("ch"))
    headers = await bearer(installation, Scope(other))
    path = "changes?cursor=beginning"
    async with gateway(installation, account, preload=0) as (api, feed):
        async with feed.catch_up_turn(account):
            polls = [asyncio.create_task(api("GET", path)) for _ in range(5)]
            assert len((await api("GET", path, headers=headers)).body["changes"]) == 1
            await asyncio.sleep(1)
            assert not any(poll.done() for poll in polls)
        assert [len((await poll).body["changes"]) for poll in polls] == [1] * 5

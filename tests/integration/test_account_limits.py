"""An account's quota of channels, its streams and long polls at a time, and its turns at old changes."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

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


async def test_streams_and_long_polls_are_an_accounts_and_a_gateways(installation: Installation) -> None:
    """Beyond its own limit an account is told so (429); where the gateway has no place left, everybody is (503)."""
    account, other, third = (fresh("acct") for _ in range(3))
    keys = {name: await bearer(installation, Scope(name)) for name in (account, other, third)}
    limits = Limits(connections=6, streams_per_account=2, long_polls_per_account=1)
    assert (limits.streams, limits.long_polls) == (3, 1)
    async with gateway(installation, account, limits) as (api, _), AsyncExitStack() as streams:

        async def refused(name: str, path: str, **headers: str) -> tuple[int, str, str]:
            answer = await api("GET", path, headers=keys[name] | headers)
            return answer.status, answer.body["type"].rpartition(":")[2], answer.headers["Retry-After"]

        following = {"Accept": "text/event-stream"}
        for name in (account, account, other):
            stream = await streams.enter_async_context(api.session.get("changes", headers=keys[name] | following))
            assert stream.status == 200
        assert await refused(account, "changes", **following) == (429, "TooManyFollowers", "5")
        assert await refused(third, "changes", **following) == (503, "TooManyFollowers", "5")
        await streams.aclose()

        async def wait_for_a_change() -> None:
            while (await api("GET", "changes?wait=30", headers=keys[account])).status == 429:
                pass  # one of the polls below had the account's place

        waiting = asyncio.create_task(wait_for_a_change())
        while (poll := await api("GET", "changes", headers=keys[account])).status == 200:
            pass
        assert (poll.status, poll.body["type"]) == (429, "urn:switchboard:problem:TooManyFollowers")
        assert await refused(other, "changes") == (503, "TooManyFollowers", "5")
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


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
        async with feed.catch_up_turns.turn(account):
            polls = [asyncio.create_task(api("GET", path)) for _ in range(5)]
            assert len((await api("GET", path, headers=headers)).body["changes"]) == 1
            await asyncio.sleep(1)
            assert not any(poll.done() for poll in polls)
        assert [len((await poll).body["changes"]) for poll in polls] == [1] * 5


async def test_statuses_of_unknown_messages_are_a_bounded_number(installation: Installation) -> None:
    """Each is kept until its message comes."""
    account, channel, known = fresh("acct"), fresh("ch"), fresh("m")
    status = {"status": "sent", "via": "chat", "at": "2026-01-01T00:00:00Z"}
    async with gateway(installation, account, Limits(early_statuses_per_account=2)) as (api, _):
        async with installation.api(None, **{"Switchboard-Account": account}) as platform:
            shop = {"channel_type": "whatsapp", "name": "Shop", "enterprise_authenticated": True}
            version = (await platform("PUT", f"channels/{channel}", shop)).body["version"]
        otp = {"category": "authentication", "recipient": "+6591234567", "settings_version": version}
        routed = await api("POST", f"channels/{channel}/message-decisions", otp, headers={"Idempotency-Key": known})
        assert routed.status == 200, routed.body
        path = f"channels/{channel}/messages/{{}}/statuses?min_version={version}"
        answers = [await api("POST", path.format(one), status) for one in (fresh("m"), known, fresh("m"), known)]
        assert [one.status for one in answers] == [202] * 4
        refused = await api("POST", path.format(fresh("m")), status)
        assert (refused.status, refused.body.get("title")) == (429, "Too many requests")
        assert int(refused.headers["Retry-After"]) > 0

"""Slow, stalled, idle and revoked readers of changes: each is served correctly, and none harms another."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import AsyncExitStack, ExitStack, closing

import pytest

from contracts.channel import RegisterChannel
from contracts.cursor import EventFilter
from contracts.sms import ToggleSms
from services.gateway.authentication import api_keys
from services.gateway.feed import event_stream, follower
from services.gateway.feed.catch_up_turns import MAX_CONCURRENT_CATCH_UPS
from services.gateway.feed.event_buffer import CutOff
from services.gateway.feed.feed import Feed
from services.gateway.feed.follower import Follower
from services.infrastructure.postgres import pool_of
from tests.gateways import gateway
from tests.installation import Api, Installation, fresh
from tests.patience import PATIENCE_S
from tests.streams import Stream, all_changes, assert_each_once_in_order, until

pytestmark = pytest.mark.timeout(120)

SHOP = RegisterChannel(channel_type="whatsapp", name="Shop", enterprise_authenticated=True)


def stalled_reader(api: Api) -> socket.socket:
    """Requests everything from the beginning, and reads nothing of it."""
    stalled = socket.socket()
    stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stalled.connect(("127.0.0.1", api.session._base_url.port))  # type: ignore[union-attr]
    key = api.session.headers["Authorization"]
    head = f"GET /v1/changes?cursor=beginning HTTP/1.1\r\nHost: x\r\nAuthorization: {key}\r\n"
    stalled.sendall(f"{head}Accept: text/event-stream\r\n\r\n".encode())
    return stalled


async def test_a_slow_reader_is_cut_off_with_its_cursor(installation: Installation) -> None:
    """Events evicted from memory are lost for a waiting follower; with its cursor it gets them from Kafka."""
    account, channel = fresh("acct"), fresh("ch")
    async with (
        Feed(installation.bootstrap_servers, {}, max_events=40, preload=0) as feed,
        installation.publisher(account) as publisher,
    ):
        slow, brisk, idle = (Follower(feed, EventFilter(name), None) for name in (account, account, "nobody"))
        seen: list[int] = []

        async def follow(follower: Follower, until: int) -> None:
            while not seen or seen[-1] < until:
                seen.extend(int(json.loads(value)["sequence"]) for value, _ in follower.read())
                await follower.wait(0.2)

        following, waiting = asyncio.create_task(follow(brisk, 121)), asyncio.create_task(idle.wait(60))
        await publisher.send(SHOP, channel=channel)
        async with asyncio.timeout(PATIENCE_S):
            for number in range(120):
                await publisher.send(ToggleSms(enabled=number % 2 == 0), channel=channel)
            await following
        assert seen == list(range(1, 122))
        with pytest.raises(CutOff):
            slow.read()
        assert idle.read() == [], "a follower with nothing to read is never too slow"
        waiting.cancel()
        again = Follower(feed, EventFilter(account), slow.cursor)
        await again.start()
        assert again.is_behind
        caught_up = []
        while again.is_behind:
            caught_up += await again.catch_up()
        assert [json.loads(value)["sequence"] for value, _ in caught_up + again.read()] == seen


async def test_a_stalled_connection_is_aborted_and_harms_nobody(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "STALLED_AFTER_S", 0.5)
    account, channel = fresh("acct"), fresh("ch")
    intent = {"system": "crm", "code": "BIG", "name": "Big", "default_data": {"x": "y" * 4_000}}
    async with gateway(installation, account) as (api, feed), installation.publisher(account) as publisher:
        await publisher.send(SHOP, channel=channel)
        opened = {"system": "crm", "name": "CRM", "api_request_url": "https://crm.example/"}
        await publisher.send_raw("OpenBusinessSystem", opened, channel=channel)
        stalled, stream = stalled_reader(api), Stream()
        reading = asyncio.create_task(stream.read(api, "changes?cursor=beginning"))
        async with asyncio.timeout(60):
            await until(lambda: feed.open_streams == 2)
            await publisher.send_raw("AddIntent", intent, channel=channel)
            sent = 0
            while feed.open_streams == 2:
                change = {"system": "crm", "code": "BIG", "default_data": {"x": f"{sent}" + "y" * 3_900}}
                await publisher.send_raw("EditIntent", change, channel=channel)
                sent += 1
            everything = await all_changes(installation, account)
            await until(lambda: len(stream.changes()) == len(everything))
        stalled.close()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        assert_each_once_in_order(stream.changes(), everything)


async def test_stalled_readers_do_not_keep_others_from_catching_up(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More stalled readers than may catch up at once; each would otherwise keep its turn while it reads nothing."""
    monkeypatch.setattr(follower, "CATCH_UP_TURN_BYTES", 20_000)
    account, channel = fresh("acct"), fresh("ch")
    opened = {"system": "crm", "name": "CRM", "api_request_url": "https://crm.example/"}
    async with installation.publisher(account) as publisher:
        await publisher.send(SHOP, channel=channel)
        await publisher.send_raw("OpenBusinessSystem", opened, channel=channel)
        for number in range(60):
            intent = {"system": "crm", "code": f"BIG_{number}", "name": "Big", "default_data": {"x": "y" * 4_000}}
            await publisher.send_raw("AddIntent", intent, channel=channel)
    stream, stalled = Stream(), MAX_CONCURRENT_CATCH_UPS + 2
    async with gateway(installation, account, preload=0) as (api, feed):
        with ExitStack() as stack:
            for _ in range(stalled):
                stack.enter_context(closing(stalled_reader(api)))
            async with asyncio.timeout(25):  # a stalled connection is aborted after 30 s
                await until(lambda: feed.open_streams == stalled)
                await stream.read(api, "changes?cursor=beginning", most=63)
                assert len((await api("GET", "changes?cursor=beginning&limit=1000")).body["changes"]) == 63
            assert feed.open_streams >= stalled
            assert feed.unread.held(account) > 0
    assert [sequence for _, sequence in stream.changes()] == list(range(1, 64))


async def test_a_reader_that_waits_for_a_catch_up_turn_gets_heartbeats_and_may_disconnect(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "HEARTBEAT_S", 0.1)
    account, channel, streams = fresh("acct"), fresh("ch"), [Stream(), Stream()]
    async with installation.publisher(account) as publisher:
        await publisher.send(SHOP, channel=channel)
    async with gateway(installation, account, preload=0) as (api, feed), asyncio.timeout(PATIENCE_S):
        async with AsyncExitStack() as turns:
            for _ in range(MAX_CONCURRENT_CATCH_UPS):
                await turns.enter_async_context(feed.catch_up_turns.turn(None))
            staying, leaving = (asyncio.create_task(one.read(api, "changes?cursor=beginning")) for one in streams)
            await until(lambda: all(one.comments > 3 for one in streams))
            leaving.cancel()
            await until(lambda: feed.open_streams == 1)
        await until(lambda: streams[0].changes() == [(channel, 1)])
        staying.cancel()
        await asyncio.gather(staying, leaving, return_exceptions=True)
        await until(lambda: feed.open_streams == 0)
    assert streams[1].got == []


async def test_streams_of_an_account_that_takes_too_little_are_sent_nothing_but_heartbeats_until_it_does(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "HEARTBEAT_S", 0.1)
    account, channel = fresh("acct"), fresh("ch")
    async with installation.publisher(account) as publisher:
        await publisher.send(SHOP, channel=channel)
    old, new = Stream(), Stream()
    async with gateway(installation, account, preload=0) as (api, feed), asyncio.timeout(PATIENCE_S):
        feed.unread.take(account, unread := 8 * 2**20)
        reading = [asyncio.create_task(old.read(api, "changes?cursor=beginning"))]
        reading.append(asyncio.create_task(new.read(api, "changes")))
        await until(lambda: old.comments > 3 < new.comments)
        async with installation.publisher(account) as publisher:
            await publisher.send_raw("EditChannel", {"name": "New"}, channel=channel)
        before = old.comments, new.comments
        await until(lambda: old.comments > before[0] + 3 and new.comments > before[1] + 3)
        assert old.changes() == new.changes() == []
        feed.unread.give_back(account, unread)
        await until(lambda: old.changes() == [(channel, 1), (channel, 2)] and new.changes() == [(channel, 2)])
        for one in reading:
            one.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
        await until(lambda: feed.unread.held(account) == 0)


async def test_a_heartbeat_while_catching_up_skips_no_event(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A heartbeat has a cursor, which must not be that of events which are not sent yet."""
    monkeypatch.setattr(event_stream, "HEARTBEAT_S", 0.01)
    account, channel, stream = fresh("acct"), fresh("ch"), Stream()
    async with installation.publisher(account) as publisher:
        await publisher.send(SHOP, channel=channel)
    async with gateway(installation, account, preload=0) as (api, feed), asyncio.timeout(PATIENCE_S):
        reading = asyncio.create_task(stream.read(api, "changes?cursor=beginning"))
        await until(lambda: stream.comments > 2)
        await until(lambda: stream.changes() == [(channel, 1)])
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await until(lambda: feed.open_streams == 0)


async def test_heartbeats_come_and_a_revoked_key_ends_the_stream_however_much_happens(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To nobody, to the account but not wanted, and wanted: each reader has all three of it."""
    monkeypatch.setattr(event_stream, "HEARTBEAT_S", 0.2)
    account = fresh("acct")
    idle, unwanted, wanted = Stream(), Stream(), Stream()
    async with (
        gateway(installation, account) as (api, _),
        installation.publisher(account) as publisher,
        installation.publisher(fresh("acct")) as other,
    ):
        busy, elsewhere = fresh("ch"), fresh("ch")
        await publisher.send(SHOP, channel=busy)
        quiet = fresh("ch")
        await publisher.send(SHOP, channel=quiet)
        async with asyncio.timeout(PATIENCE_S):
            while (await api("GET", f"channels/{quiet}?min_version=1")).status != 200:
                pass
        paths = (f"changes?channel={quiet}", "changes?type=ChannelRetired", "changes")
        streams = (idle, unwanted, wanted)
        reading = [asyncio.create_task(one.read(api, path)) for one, path in zip(streams, paths, strict=True)]
        async with asyncio.timeout(PATIENCE_S):
            await until(lambda: all(one.last_id is not None for one in streams))
        before = [one.last_id for one in streams]
        await other.send(SHOP, channel=elsewhere)
        for turn in range(40):
            await publisher.send(ToggleSms(enabled=turn % 2 == 0), channel=busy)
            await asyncio.sleep(0.03)
        async with asyncio.timeout(PATIENCE_S):
            await until(lambda: len(wanted.got) == 40)
        assert idle.got == unwanted.got == []
        assert all(one.comments > 3 for one in streams)
        assert all(one.last_id != then for one, then in zip(streams, before, strict=True))
        pool = await pool_of(installation.settings, size=1)
        await api_keys.revoke(pool, api.session.headers["Authorization"].split("_")[1])
        await pool.close()
        async with asyncio.timeout(PATIENCE_S):
            while not all(one.done() for one in reading):
                await publisher.send(ToggleSms(enabled=True), channel=busy)
                await publisher.send(ToggleSms(enabled=False), channel=busy)
        for one in streams:
            _, event, data = one.got[-1]
            assert (event, data["detail"]) == ("problem", "The API key is not valid any more.")


async def test_a_gateway_that_stops_says_so(installation: Installation) -> None:
    account, stream = fresh("acct"), Stream()
    async with gateway(installation, account) as (api, feed):
        reading = asyncio.create_task(stream.read(api))
        async with asyncio.timeout(PATIENCE_S):
            await until(lambda: stream.last_id is not None)
        feed._close()
        await reading
    assert [event for _, event, _ in stream.got] == ["cut-off"]

"""Changes over HTTP on a running Switchboard: each once and in order, snapshots that meet them, readers that err."""

from __future__ import annotations

import asyncio
import json
import socket
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from contracts.changes import Cursor, Place, Wanted
from contracts.channel import RegisterChannel
from contracts.sms import ToggleSms
from contracts.subscriber import Subscriber
from services.gateway import api_keys, change_routes
from services.gateway.feed import CutOff, Feed, Follower
from services.infrastructure.postgres import pool_of
from tests.gateways import gateway
from tests.installation import Api, Installation, fresh
from tests.read_models import load

pytestmark = pytest.mark.timeout(120)

SHOP = RegisterChannel(channel_type="whatsapp", name="Shop", enterprise_authenticated=True)


@dataclass
class Stream:
    """What a reader of server-sent events has got: (id, event, data) each, and the last id."""

    got: list[tuple[str, str, Any]] = field(default_factory=list)
    last_id: str | None = None
    comments: int = 0

    async def read(self, api: Api, path: str = "changes", *, most: int = 1_000_000) -> None:
        """Connects where it was, and reads until the answer ends or it has ``most`` more."""
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": self.last_id} if self.last_id else {})
        wanted = len(self.got) + most
        async with api.session.get(path, headers=headers) as response:
            assert response.status == 200, await response.text()
            event: dict[str, str] = {}
            async for line in response.content:
                text = line.decode().rstrip("\n")
                if text.startswith(":"):
                    self.comments += 1
                elif text:
                    name, _, value = text.partition(": ")
                    event[name] = value
                else:
                    self.last_id = event.get("id", self.last_id)
                    if "data" in event:
                        self.got.append((self.last_id or "", event.get("event", ""), json.loads(event["data"])))
                    event = {}
                if len(self.got) >= wanted:
                    return

    def changes(self) -> list[tuple[str, int]]:
        return [(data["subject"], data["sequence"]) for _, event, data in self.got if not event]


async def all_changes(installation: Installation, account: str) -> list[tuple[str, int]]:
    changes = Subscriber(installation.bootstrap_servers).changes("beginning", account=account, endless=False)
    return [(change.event.subject, change.event.sequence) async for change in changes]


def assert_each_once_in_order(seen: list[tuple[str, int]], everything: list[tuple[str, int]]) -> None:
    by_channel: dict[str, list[int]] = defaultdict(list)
    for channel, sequence in seen:
        by_channel[channel].append(sequence)
    for channel, sequences in by_channel.items():
        assert sequences == list(range(1, len(sequences) + 1)), f"{channel} came out of order, with a gap or twice"
    assert sorted(seen) == sorted(everything)


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 -- what is looked at knows no event
        await asyncio.sleep(0.02)


async def test_server_sent_events_through_many_reconnects_during_load(installation: Installation) -> None:
    account, random, stream = fresh("acct"), Random(11), Stream()  # noqa: S311 -- repeatable, not secret
    async with installation.api(account) as api, installation.publisher(account) as publisher:
        stream.last_id = (await api("GET", "changes")).body["cursor"]
        loading = asyncio.gather(load(publisher, random, [fresh("ch") for _ in range(6)], 500, at_once=10))
        reconnects = 0
        while reconnects < 100:
            reading = asyncio.create_task(stream.read(api, most=random.randint(1, 8)))
            await asyncio.wait([reading], timeout=random.uniform(0.01, 0.1))
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            reconnects += 1
        await loading
        everything = await all_changes(installation, account)
        left = len(everything) - len(stream.changes())
        async with asyncio.timeout(30):
            if left:
                await stream.read(api, most=left)
    assert len(everything) > 100
    assert_each_once_in_order(stream.changes(), everything)


async def test_a_snapshot_and_its_changes_meet(installation: Installation) -> None:
    """Settings and lists read while commands keep coming: what their cursor leads to is exactly what they lack."""
    account, random = fresh("acct"), Random(12)  # noqa: S311 -- repeatable, not secret
    channels = [fresh("ch") for _ in range(4)]
    snapshots: list[tuple[dict[str, int], str]] = []
    async with installation.api(account) as api, installation.publisher(account) as publisher:
        loading = asyncio.gather(load(publisher, random, channels, 200, at_once=5))
        for _ in range(15):
            await asyncio.sleep(random.uniform(0.01, 0.1))
            page = (await api("GET", "channels")).body
            snapshots.append(({one["channel"]: one["version"] for one in page["channels"]}, page["cursor"]))
            one = await api("GET", f"channels/{random.choice(channels)}/settings")
            if one.status == 200:
                known = {one.body["channel"]: one.body["version"]}
                snapshots.append((known, one.headers["Switchboard-Cursor"]))
        await loading
        everything = await all_changes(installation, account)
        for known, cursor in snapshots:
            after, more = [], True
            while more:
                answer = (await api("GET", f"changes?limit=37&cursor={cursor}")).body
                after += [(one["subject"], one["sequence"]) for one in answer["changes"]]
                cursor, more = answer["cursor"], answer["more"]
            for channel in known:
                missing = [number for name, number in everything if name == channel and number > known[channel]]
                assert [number for name, number in after if name == channel] == missing
    assert len(snapshots) > 15


async def test_polling(installation: Installation) -> None:
    account, channel = fresh("acct"), fresh("ch")
    async with installation.api(account) as api, installation.publisher(account) as publisher:
        nothing = (await api("GET", "changes")).body
        assert (nothing["changes"], nothing["more"]) == ([], False)
        asked = asyncio.create_task(api("GET", f"changes?wait=20&cursor={nothing['cursor']}"))
        await asyncio.sleep(0.3)
        await publisher.send(SHOP, channel=channel)
        first = (await asked).body
        assert [one["type"] for one in first["changes"]] == ["ChannelRegistered"]
        for enabled in (True, False, True):
            await publisher.send(ToggleSms(enabled=enabled), channel=channel)
        await api("GET", f"channels/{channel}?min_version=4")
        filtered = f"changes?type=SmsActivated&resource=sms&channel={channel}&wait=5&cursor=beginning"
        async with asyncio.timeout(10):
            while len(found := (await api("GET", filtered)).body["changes"]) < 2:
                pass
        assert [one["sequence"] for one in found] == [2, 4]
        pages = [(await api("GET", "changes?limit=2&cursor=beginning")).body]
        pages.append((await api("GET", f"changes?limit=2&cursor={pages[0]['cursor']}")).body)
        pages.append((await api("GET", f"changes?limit=2&cursor={pages[1]['cursor']}")).body)
        assert [[one["sequence"] for one in page["changes"]] for page in pages] == [[1, 2], [3, 4], []]
        assert pages[0]["more"] is True
        assert pages[2]["more"] is False


async def test_what_cannot_be_followed_is_answered_clearly_and_tells_nothing(installation: Installation) -> None:
    account, other = fresh("acct"), fresh("acct")
    theirs = fresh("ch")
    async with installation.publisher(other) as publisher:
        await publisher.send(SHOP, channel=theirs)
    async with installation.api(other) as api:
        assert (await api("GET", f"channels/{theirs}?min_version=1")).status == 200
    async with installation.api(account) as api:
        here = Cursor.parse((await api("GET", "changes")).body["cursor"])
        beyond = tuple(Place(10**9, None) for _ in here.places)
        partial = (None, *here.places[1:])
        wrong_count = tuple(place and Place(place.offset, (place.sequence or 0) + 5) for place in here.places)
        for accept in ("text/event-stream", "application/json"):
            for query, status, name in (
                ("cursor=tomorrow", 400, "CursorRefused"),
                ("cursor=" + "c1." + "A" * 2_000, 400, "CursorRefused"),
                (f"cursor={Cursor('elsewhere', here.places)}", 400, "CursorRefused"),
                (f"cursor={Cursor(here.deployment, beyond)}", 400, "CursorRefused"),
                (f"cursor={Cursor(here.deployment, partial)}", 400, "CursorRefused"),
                ("type=SmsExploded", 400, "ParameterInvalid"),
                ("limit=0", 400, "ParameterInvalid"),
                ("wait=1000", 400, "ParameterInvalid"),
                (f"channel={theirs}", 404, "ChannelUnknown"),
                (f"channel={fresh('ch')}", 404, "ChannelUnknown"),
                ("channel=%20", 404, "ChannelUnknown"),
                (f"account={other}", 403, "Forbidden"),
            ):
                answer = await api("GET", f"changes?{query}", headers={"Accept": accept})
                assert (answer.status, answer.body["type"]) == (status, f"urn:switchboard:problem:{name}"), query
                assert answer.headers["Content-Type"] == "application/problem+json"
        garbage = await api("GET", "changes", headers={"Accept": "text/event-stream", "Last-Event-ID": "7"})
        assert (garbage.status, garbage.body["title"]) == (400, "Cursor refused")
        # A cursor whose counts do not fit: known at once, or with the first event behind it.
        await api("GET", f"changes?cursor={Cursor(here.deployment, wrong_count)}")
        nobodys = fresh("ch")
        details = [(await api("GET", f"changes?channel={name}")).body["detail"] for name in (nobodys, theirs)]
        assert details[0].replace(nobodys, theirs) == details[1]
        assert (await api("GET", "changes?cursor=beginning")).body["changes"] == []
        async with api.session.get("changes", headers={"Authorization": ""}) as response:
            assert response.status == 401


async def test_the_platform_follows_every_account_or_one(installation: Installation) -> None:
    accounts = [fresh("acct"), fresh("acct")]
    async with installation.api(None) as api:
        cursor = (await api("GET", "changes")).body["cursor"]
        for account in accounts:
            async with installation.publisher(account) as publisher:
                await publisher.send(SHOP, channel=fresh("ch"))
        async with asyncio.timeout(10):
            while True:
                body = (await api("GET", f"changes?cursor={cursor}&limit=1000")).body
                if {one["accountid"] for one in body["changes"]} >= set(accounts):
                    break
        one = (await api("GET", f"changes?cursor={cursor}&account={accounts[0]}")).body["changes"]
        assert {change["accountid"] for change in one} == {accounts[0]}


async def test_a_slow_reader_is_cut_off_with_its_cursor(installation: Installation) -> None:
    """What memory has dropped is gone for who waits for it; with its cursor it gets everything from Kafka."""
    account, channel = fresh("acct"), fresh("ch")
    async with (
        Feed(installation.bootstrap_servers, {}, kept=40, warm=0) as feed,
        installation.publisher(account) as publisher,
    ):
        slow, brisk, idle = (Follower(feed, Wanted(name), None) for name in (account, account, "nobody"))
        seen: list[int] = []

        async def follow(follower: Follower, until: int) -> None:
            while not seen or seen[-1] < until:
                seen.extend(int(json.loads(entry.value)["sequence"]) for entry, _ in follower.take())
                await follower.wait(0.2)

        following, waiting = asyncio.create_task(follow(brisk, 121)), asyncio.create_task(idle.wait(60))
        await publisher.send(SHOP, channel=channel)
        async with asyncio.timeout(20):
            for number in range(120):
                await publisher.send(ToggleSms(enabled=number % 2 == 0), channel=channel)
            await following
        assert seen == list(range(1, 122))
        with pytest.raises(CutOff):
            slow.take()
        assert idle.take() == [], "who has nothing to read is never too slow"
        waiting.cancel()
        again = Follower(feed, Wanted(account), slow.cursor)
        await again.start()
        assert again.behind
        caught_up = [json.loads(value)["sequence"] async for value, _ in again.catch_up()]
        assert not again.behind
        assert caught_up + [json.loads(entry.value)["sequence"] for entry, _ in again.take()] == seen


async def test_a_stalled_connection_is_ended_and_hurts_nobody(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_routes, "STALLED_AFTER_S", 0.5)
    account, channel = fresh("acct"), fresh("ch")
    intent = {"system": "crm", "code": "BIG", "name": "Big", "default_data": {"x": "y" * 4_000}}
    async with gateway(installation, account) as (api, feed), installation.publisher(account) as publisher:
        await publisher.send(SHOP, channel=channel)
        opened = {"system": "crm", "name": "CRM", "api_request_url": "https://crm.example/"}
        await publisher.send_raw("OpenBusinessSystem", opened, channel=channel)
        stalled = socket.socket()
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.connect(("127.0.0.1", api.session._base_url.port))  # type: ignore[union-attr]
        key = api.session.headers["Authorization"]
        head = f"GET /v1/changes?cursor=beginning HTTP/1.1\r\nHost: x\r\nAuthorization: {key}\r\n"
        stalled.sendall(f"{head}Accept: text/event-stream\r\n\r\n".encode())
        stream = Stream()
        reading = asyncio.create_task(stream.read(api, "changes?cursor=beginning"))
        async with asyncio.timeout(60):
            await until(lambda: feed.followers == 2)
            await publisher.send_raw("AddIntent", intent, channel=channel)
            sent = 0
            while feed.followers == 2:
                change = {"system": "crm", "code": "BIG", "default_data": {"x": f"{sent}" + "y" * 3_900}}
                await publisher.send_raw("EditIntent", change, channel=channel)
                sent += 1
            everything = await all_changes(installation, account)
            await until(lambda: len(stream.changes()) == len(everything))
        stalled.close()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        assert_each_once_in_order(stream.changes(), everything)


async def test_heartbeats_move_the_cursor_on_and_a_revoked_key_ends_the_stream(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_routes, "HEARTBEAT_S", 0.2)
    account = fresh("acct")
    async with gateway(installation, account) as (api, _), installation.publisher(fresh("acct")) as publisher:
        stream = Stream()
        reading = asyncio.create_task(stream.read(api))
        await asyncio.sleep(0.5)
        before = stream.last_id
        await publisher.send(SHOP, channel=fresh("ch"))  # another account's
        await asyncio.sleep(1)
        assert stream.got == []
        assert stream.comments > 2
        assert before != stream.last_id
        pool = await pool_of(installation.settings, size=1)
        await api_keys.revoke(pool, api.session.headers["Authorization"].split("_")[1])
        await pool.close()
        async with asyncio.timeout(5):
            await reading
        assert [(event, data["detail"]) for _, event, data in stream.got] == [("problem", "The API key was revoked.")]


async def test_a_gateway_that_ends_says_so(installation: Installation) -> None:
    account, stream = fresh("acct"), Stream()
    async with gateway(installation, account) as (api, feed):
        reading = asyncio.create_task(stream.read(api))
        async with asyncio.timeout(5):
            await until(lambda: stream.last_id is not None)
        feed._close()
        await reading
    assert [event for _, event, _ in stream.got] == ["cut-off"]

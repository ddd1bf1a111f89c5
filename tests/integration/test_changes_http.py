"""Changes over HTTP on a running Switchboard: each once and in order, consistent with snapshots; invalid requests."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from contracts.channel import RegisterChannel
from contracts.cursor import Cursor, Position
from contracts.sms import ToggleSms
from tests.installation import Installation, fresh
from tests.patience import PATIENCE_S
from tests.read_models import load
from tests.streams import Stream, all_changes, assert_each_once_in_order

pytestmark = pytest.mark.timeout(120)

SHOP = RegisterChannel(channel_type="whatsapp", name="Shop", enterprise_authenticated=True)


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
    """Settings and lists are read while commands arrive: the changes after their cursor are exactly what they lack."""
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


async def test_every_list_has_a_cursor_that_its_changes_follow(installation: Installation) -> None:
    account, channel = fresh("acct"), fresh("ch")
    systems = f"channels/{channel}/business-systems"
    async with installation.api(account) as api, installation.publisher(account) as publisher:
        await publisher.send(SHOP, channel=channel)
        opened = {"system": "crm", "name": "CRM", "api_request_url": "https://crm.example/"}
        await publisher.send_raw("OpenBusinessSystem", opened, channel=channel)
        intent = {"system": "crm", "code": "ORDER", "name": "Order", "default_data": {}}
        version = (await publisher.send_raw("AddIntent", intent, channel=channel)).version
        etags = {}
        for path in (systems, f"{systems}/crm", f"{systems}/crm/intents", f"{systems}/crm/intents/ORDER"):
            answer = await api("GET", f"{path}?min_version={version}")
            etags[path] = answer.headers["ETag"]
            after = (await api("GET", f"changes?cursor={answer.headers['Switchboard-Cursor']}")).body
            assert after["changes"] == [], path
        assert set(etags.values()) == {f'"{version}"'}
        count = 3
        for path in ("channels", "intents", "history"):

            async def behind(cursor: str) -> int:
                return len((await api("GET", f"changes?cursor={cursor}")).body["changes"])

            async with asyncio.timeout(PATIENCE_S):
                while await behind("beginning") < count:
                    pass  # the feed itself may lag behind
                while await behind(cursor := (await api("GET", path)).body["cursor"]):
                    pass
            await publisher.send_raw("EditChannel", {"name": path}, channel=channel)
            count += 1
            answer = (await api("GET", f"changes?wait=10&cursor={cursor}")).body
            assert [one["data"] for one in answer["changes"]] == [{"name": path}], path


async def test_no_parameter_holds_a_nul(installation: Installation) -> None:
    async with installation.api(fresh("acct")) as api:
        for path in (
            "channels?after=%00",
            "intents?after=%00//",
            "intents?template=x%00",
            "history?before=1.events.0.%00",
            "changes?cursor=%00",
            "changes?resource=%00",
            "channels/%00/settings",
            "channels/ch/business-systems/%00",
            "channels/ch/business-systems/crm/intents/%00",
        ):
            answer = await api("GET", path)
            assert (answer.status, answer.body["title"]) == (400, "Parameter invalid"), path
        assert (await api("GET", "channels/%ED%A0%80/settings")).status == 404


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
        async with asyncio.timeout(PATIENCE_S):
            while len(found := (await api("GET", filtered)).body["changes"]) < 2:
                pass
        assert [one["sequence"] for one in found] == [2, 4]
        pages = [(await api("GET", "changes?limit=2&cursor=beginning")).body]
        pages.append((await api("GET", f"changes?limit=2&cursor={pages[0]['cursor']}")).body)
        pages.append((await api("GET", f"changes?limit=2&cursor={pages[1]['cursor']}")).body)
        assert [[one["sequence"] for one in page["changes"]] for page in pages] == [[1, 2], [3, 4], []]
        assert pages[0]["more"] is True
        assert pages[2]["more"] is False


async def test_an_invalid_request_gets_a_clear_problem_that_discloses_nothing(installation: Installation) -> None:
    account, other = fresh("acct"), fresh("acct")
    theirs = fresh("ch")
    async with installation.publisher(other) as publisher:
        await publisher.send(SHOP, channel=theirs)
    async with installation.api(other) as api:
        assert (await api("GET", f"channels/{theirs}?min_version=1")).status == 200
    async with installation.api(account) as api:
        here = Cursor.parse((await api("GET", "changes")).body["cursor"])
        beyond = tuple(Position(10**9, None) for _ in here.positions)
        partial = (None, *here.positions[1:])
        wrong_count = tuple(
            position and Position(position.offset, (position.sequence or 0) + 5) for position in here.positions
        )
        for accept in ("text/event-stream", "application/json"):
            for query, status, name in (
                ("cursor=tomorrow", 400, "CursorRefused"),
                ("cursor=" + "c2." + "A" * 2_000, 400, "CursorRefused"),
                (f"cursor={Cursor('elsewhere', here.positions)}", 400, "CursorRefused"),
                (f"cursor={Cursor(here.deployment, beyond)}", 400, "CursorRefused"),
                (f"cursor={Cursor(here.deployment, partial)}", 400, "CursorRefused"),
                (f"cursor={Cursor(here.deployment, wrong_count)}", 400, "CursorRefused"),
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
        nobodys = fresh("ch")
        details = [(await api("GET", f"changes?channel={name}")).body["detail"] for name in (nobodys, theirs)]
        assert details[0].replace(nobodys, theirs) == details[1]
        assert (await api("GET", "changes?cursor=beginning")).body["changes"] == []
        async with api.session.get("changes", headers={"Authorization": ""}) as response:
            assert response.status == 401


async def test_the_stream_is_requested_by_its_media_type(installation: Installation) -> None:
    async with installation.api(fresh("acct")) as api:
        for accept, kind in (
            ("Text/Event-Stream", "text/event-stream; charset=utf-8"),
            ("application/json, text/event-stream", "text/event-stream; charset=utf-8"),
            ("*/*", "application/json"),
        ):
            async with api.session.get("changes", headers={"Accept": accept}) as response:
                assert (response.status, response.headers["Content-Type"]) == (200, kind)
        refused = await api("PUT", "changes")
        assert (refused.status, refused.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")
        described = (await api("GET", "/openapi.json")).body["paths"]["/v1/changes"]["get"]["responses"]["200"]
        assert set(described["content"]) == {"application/json", "text/event-stream"}


async def test_the_platform_follows_every_account_or_one(installation: Installation) -> None:
    accounts = [fresh("acct"), fresh("acct")]
    async with installation.api(None) as api:
        cursor = (await api("GET", "changes")).body["cursor"]
        for account in accounts:
            async with installation.publisher(account) as publisher:
                await publisher.send(SHOP, channel=fresh("ch"))
        async with asyncio.timeout(PATIENCE_S):
            while True:
                body = (await api("GET", f"changes?cursor={cursor}&limit=1000")).body
                if {one["accountid"] for one in body["changes"]} >= set(accounts):
                    break
        one = (await api("GET", f"changes?cursor={cursor}&account={accounts[0]}")).body["changes"]
        assert {change["accountid"] for change in one} == {accounts[0]}
        for_one = {"Switchboard-Account": accounts[0]}
        assert (await api("GET", f"changes?cursor={cursor}", headers=for_one)).body["changes"] == one
        refused = await api("GET", f"changes?account={accounts[1]}", headers=for_one)
        assert (refused.status, "for one account" in refused.body["detail"]) == (403, True)

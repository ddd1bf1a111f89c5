"""Following changes over Kafka: each once, in order per channel, however often the follower is killed."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import defaultdict
from contextlib import aclosing
from random import Random
from typing import Any

import pytest

from contracts.channel import RegisterChannel
from contracts.cursor import Cursor, InvalidCursor
from contracts.kafka.subscriber import Change, Subscriber, SubscriberError
from contracts.sms import ToggleSms
from tests.installation import Installation, fresh
from tests.read_models import load

pytestmark = pytest.mark.timeout(120)


async def everything(subscriber: Subscriber, account: str) -> list[Change]:
    async with aclosing(subscriber.changes("beginning", account=account, endless=False)) as changes:
        return [change async for change in changes]


def in_order(events: list[tuple[str, int]]) -> None:
    """(channel, sequence) pairs: each channel counts 1, 2, 3 …"""
    by_channel: dict[str, list[int]] = defaultdict(list)
    for channel, sequence in events:
        by_channel[channel].append(sequence)
    for channel, sequences in by_channel.items():
        assert sequences == list(range(1, len(sequences) + 1)), f"{channel} came out of order, with a gap or twice"


@pytest.mark.parametrize("kills", [100])
async def test_cut_off_and_resumed_many_times_during_load(installation: Installation, kills: int) -> None:
    """Each time after a random number of changes, wherever that is; it goes on from the cursor that it kept."""
    account, random = fresh("acct"), Random(7)  # noqa: S311 -- repeatable, not secret
    subscriber = Subscriber(installation.bootstrap_servers)
    seen: list[tuple[str, int]] = []
    async with subscriber.changes("now") as place:
        cursor = place.cursor

    async def follow(wanted: int) -> None:
        nonlocal cursor
        async with aclosing(subscriber.changes(cursor, account=account)) as changes:
            async for change in changes:
                seen.append((change.event.subject, change.event.sequence))
                cursor = change.cursor
                wanted -= 1
                if wanted <= 0:
                    return

    async with installation.publisher(account) as publisher:
        loading = asyncio.gather(load(publisher, random, [fresh("ch") for _ in range(6)], 400, at_once=10))
        for _ in range(kills):
            following = asyncio.create_task(follow(random.randint(1, 12)))
            await asyncio.wait([following], timeout=random.uniform(0.01, 0.12))
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        [accepted] = await loading
    async with aclosing(subscriber.changes(cursor, account=account, endless=False)) as rest:
        seen += [(change.event.subject, change.event.sequence) async for change in rest]

    in_order(seen)
    assert accepted > 100
    assert len(seen) > 100
    assert sorted(seen) == sorted(
        (one.event.subject, one.event.sequence) for one in await everything(subscriber, account)
    )


async def test_filters_and_what_each_start_means(installation: Installation) -> None:
    account, channel, other = fresh("acct"), fresh("ch"), fresh("ch")
    subscriber = Subscriber(installation.bootstrap_servers)
    register = RegisterChannel(channel_type="whatsapp", name="Shop", enterprise_authenticated=True)
    async with installation.publisher(account) as publisher:
        for name in (channel, other):
            await publisher.send(register, channel=name)
        async with subscriber.changes("now", account=account, channels=[channel], types=["SmsActivated"]) as changes:
            for enabled in (True, False, True):
                for name in (other, channel):
                    await publisher.send(ToggleSms(enabled=enabled), channel=name)
            seen = [(await anext(changes)).event for _ in range(2)]
    assert [(one.subject, one.type, one.sequence) for one in seen] == [
        (channel, "SmsActivated", 2),
        (channel, "SmsActivated", 4),
    ]
    assert {one.event.accountid for one in await everything(subscriber, account)} == {account}
    by_resource = subscriber.changes("beginning", account=account, resources=["sms"], endless=False)
    assert [one.event.resource async for one in by_resource] == ["sms"] * 6
    middle = (await everything(subscriber, account))[3]
    rest = subscriber.changes(middle.cursor, account=account, endless=False)
    assert len([one async for one in rest]) == 4


async def test_a_group_shares_the_partitions_and_goes_on_where_it_was(installation: Installation) -> None:
    account, group = fresh("acct"), fresh("group")
    channels = [fresh("ch") for _ in range(24)]
    register = RegisterChannel(channel_type="whatsapp", name="Shop", enterprise_authenticated=True)
    seen: dict[str, list[tuple[str, int]]] = {"a": [], "b": [], "c": []}
    partitions: dict[str, set[int]] = defaultdict(set)

    async def member(name: str) -> None:
        subscriber = Subscriber(installation.bootstrap_servers, group=group)
        async with aclosing(subscriber.changes("beginning", account=account)) as changes:
            async for change in changes:
                seen[name].append((change.event.subject, change.event.sequence))
                partitions[name].add(change.partition)

    async def until(count: int) -> None:
        async with asyncio.timeout(60):
            while len({one for part in seen.values() for one in part}) < count:  # noqa: ASYNC110 -- three tasks fill it
                await asyncio.sleep(0.05)

    members = [asyncio.create_task(member(name)) for name in "ab"]
    await asyncio.sleep(5)  # both have joined
    async with installation.publisher(account) as publisher:
        await publisher.send_many((channel, register) for channel in channels)
        await until(24)
        await asyncio.sleep(1.5)  # a second after, the places are noted
        for one in members:
            one.cancel()
        await asyncio.gather(*members, return_exceptions=True)
        await publisher.send_many((channel, ToggleSms(enabled=True)) for channel in channels)
        third = asyncio.create_task(member("c"))
        await until(48)
        third.cancel()
        await asyncio.gather(third, return_exceptions=True)
    assert partitions["a"].isdisjoint(partitions["b"])
    assert partitions["a"]
    assert partitions["b"]
    # At least once: a change that was handed out last, and never followed by a call for the next, comes again.
    assert len(seen["a"] + seen["b"]) == 24
    assert {one for one in seen["c"] if one[1] == 2} == {(channel, 2) for channel in channels}
    assert sum(sequence == 1 for _, sequence in seen["c"]) <= 2


async def test_cursors_that_cannot_be_used(installation: Installation) -> None:
    subscriber = Subscriber(installation.bootstrap_servers)
    async with subscriber.changes() as changes:
        here = Cursor.parse(changes.cursor)
    beyond = tuple(place and type(place)(place.offset + 1_000_000, place.sequence) for place in here.positions)
    for cursor, sentence in (
        ("tomorrow", "not a cursor"),
        (str(Cursor("elsewhere", here.positions)), "another deployment"),
        (str(Cursor(here.deployment, here.positions[:-1])), "another deployment"),
        (str(Cursor(here.deployment, beyond)), "has no offset"),
        (str(Cursor(here.deployment, (None, *here.positions[1:]))), "member of a group"),
    ):
        with pytest.raises(InvalidCursor, match=sentence):
            await anext(subscriber.changes(cursor))


async def test_a_broker_that_is_not_there() -> None:
    with pytest.raises(SubscriberError, match=r"^No broker answers at 127.0.0.1:1\.$"):
        await anext(Subscriber("127.0.0.1:1").changes())
    nowhere = os.environ | {"SWITCHBOARD_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    command = [sys.executable, "-m", "services.cli", "follow"]
    refused = await asyncio.to_thread(
        subprocess.run, command, env=nowhere, capture_output=True, text=True, check=False, timeout=60
    )
    [line] = refused.stderr.splitlines()
    assert (refused.returncode, line) == (2, "switchboard: No broker answers at 127.0.0.1:1.")


async def follow(installation: Installation, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "services.cli", "follow", *arguments]
    return await asyncio.to_thread(
        subprocess.run, command, env=installation.environment, capture_output=True, text=True, check=False, timeout=60
    )


async def test_the_command_line_follows_and_is_killed_and_resumed(installation: Installation) -> None:
    account, channel = fresh("acct"), fresh("ch")
    register = RegisterChannel(channel_type="whatsapp", name="Shop ☎", enterprise_authenticated=True)
    async with installation.publisher(account) as publisher:
        await publisher.send(register, channel=channel)
        for turn in range(30):
            await publisher.send(ToggleSms(enabled=turn % 2 == 0), channel=channel)
    lines: list[dict[str, Any]] = []
    cursor = "beginning"
    for wanted in (4, 11, 9):
        process = subprocess.Popen(  # noqa: ASYNC220 -- it is to be killed
            [sys.executable, "-m", "services.cli", "follow", "--account", account, "--cursor", cursor],
            env=installation.environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        for _ in range(wanted):
            lines.append(json.loads(await asyncio.to_thread(process.stdout.readline)))
            cursor = lines[-1]["cursor"]
        process.kill()
        process.wait()
        process.stdout.close()
    rest = await follow(installation, "--account", account, "--cursor", cursor, "--until-now")
    lines += map(json.loads, rest.stdout.splitlines())
    assert [line["sequence"] for line in lines] == list(range(1, 32))
    only = await follow(
        installation, "--account", account, "--cursor", "beginning", "--type", "SmsActivated", "--until-now"
    )
    assert len(only.stdout.splitlines()) == 15

"""Followers of a log whose partitions grew: each event once, a channel's older ones first, from any cursor."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from pydantic_core import from_json

from contracts.cursor import Cursor, EventFilter, InvalidCursor
from contracts.kafka.changes import Changes
from contracts.kafka.subscriber import BEGINNING, NOW, Change, Subscriber
from services.gateway.feed.feed import Feed
from services.gateway.feed.follower import Follower
from services.infrastructure.embedded.kafka import EmbeddedKafka
from tests.event_writer import Writer, writer
from tests.patience import PATIENCE_S

STAYS, MOVES = "channel-2", "channel-0"


@pytest.fixture
async def log(own_kafka: EmbeddedKafka) -> AsyncIterator[Writer]:
    async with writer(own_kafka) as log:
        yield log


def subscriber(log: Writer, group: str | None = None) -> Subscriber:
    return Subscriber(log.servers, group=group)


def seen(changes: list[Change]) -> list[tuple[str, int]]:
    return [(change.event.subject, change.event.sequence) for change in changes]


async def take(changes: Changes, count: int) -> list[Change]:
    async with asyncio.timeout(PATIENCE_S):
        return [await anext(changes) for _ in range(count)]


async def grown(log: Writer, older: int = 50) -> list[tuple[str, int]]:
    """Events before and after a growth, in the only order that each channel may have. Returns those of `MOVES`."""
    for _ in range(older):
        await log.write(MOVES)
    await log.write(STAYS)
    await log.grow(2)
    await log.write(MOVES, partition=1)
    await log.write(STAYS)
    return [(MOVES, number) for number in range(1, log.sequences[MOVES] + 1)]


@pytest.mark.parametrize("group", [None, "readers"])
async def test_a_subscriber_reads_the_parent_first(log: Writer, group: str | None) -> None:
    expected = await grown(log)
    changes = subscriber(log, group).changes(BEGINNING, endless=False)
    found = seen([change async for change in changes])
    assert [one for one in found if one[0] == MOVES] == expected
    assert sorted(found) == sorted([*expected, (STAYS, 1), (STAYS, 2)])


async def test_a_subscriber_notices_added_partitions(log: Writer) -> None:
    async with subscriber(log).changes(NOW) as changes:
        await log.write(MOVES)
        assert seen(await take(changes, 1)) == [(MOVES, 1)]
        await log.grow(2, finished=False)
        await log.write(STAYS)
        assert seen(await take(changes, 1)) == [(STAYS, 1)]
        await log.grow(2)
        await log.write(MOVES, partition=1)
        [change] = await take(changes, 1)
    assert seen([change]) == [(MOVES, 2)]
    assert len(Cursor.parse(change.cursor).positions) == 2


async def test_a_cursor_from_before_the_growth_begins_the_new_partition(log: Writer) -> None:
    await log.write(MOVES)
    async with subscriber(log).changes(NOW) as changes:
        cursor = changes.cursor
    await log.write(MOVES)
    await log.grow(2)
    await log.write(MOVES, partition=1)
    async with subscriber(log).changes(cursor) as changes:
        assert seen(await take(changes, 2)) == [(MOVES, 2), (MOVES, 3)]
    wrong = Cursor.parse(cursor).extended(3)
    with pytest.raises(InvalidCursor, match="another deployment"):
        await anext(subscriber(log).changes(str(wrong)))


async def test_a_group_that_was_there_before_goes_on_with_the_new_partition(log: Writer) -> None:
    """Whatever `since` says, and also where another member has the parent and is slow."""
    async with subscriber(log, "readers").changes(NOW) as changes:
        await log.write(MOVES)
        assert seen(await take(changes, 1)) == [(MOVES, 1)]
        await log.write(MOVES)
        await log.grow(2)
        await log.write(MOVES, partition=1)
        await log.write(STAYS)
    # The first member left before it was done with the first event.
    members = [subscriber(log, "readers").changes(NOW) for _ in range(2)]
    found: list[tuple[str, int]] = []

    async def follow(changes: Changes) -> None:
        async for change in changes:
            found.append((change.event.subject, change.event.sequence))
            await asyncio.sleep(0.2)

    following = [asyncio.create_task(follow(changes)) for changes in members]
    async with asyncio.timeout(PATIENCE_S):
        while (MOVES, 3) not in found or (STAYS, 1) not in found:  # noqa: ASYNC110 -- nobody tells
            await asyncio.sleep(0.05)
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)
    once = list(dict.fromkeys(found))
    assert [number for channel, number in once if channel == MOVES] == [1, 2, 3]


async def test_a_group_member_waits_for_the_member_that_has_the_parent(log: Writer) -> None:
    await log.write(MOVES)
    await log.grow(2)
    await log.write(MOVES, partition=1)
    members = [subscriber(log, "readers").changes(BEGINNING) for _ in range(2)]
    found: list[tuple[str, int]] = []
    done = asyncio.Event()

    async def follow(changes: Changes) -> None:
        async for change in changes:
            found.append((change.event.subject, change.event.sequence))
            await done.wait()

    following = [asyncio.create_task(follow(changes)) for changes in members]
    async with asyncio.timeout(PATIENCE_S):
        while not found:  # noqa: ASYNC110 -- nobody tells
            await asyncio.sleep(0.05)
        await asyncio.sleep(3)  # the other member could read its partition meanwhile
        assert set(found) == {(MOVES, 1)}
        done.set()
        while (MOVES, 2) not in found:  # noqa: ASYNC110 -- nobody tells
            await asyncio.sleep(0.05)
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)


async def read(follower: Follower, count: int) -> list[tuple[str, int]]:
    """The next events of a follower that has started."""
    found: list[tuple[str, int]] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(found) < count:
            changes = await follower.catch_up() if follower.is_behind else follower.read()
            found += [(event["subject"], event["sequence"]) for event in (from_json(value) for value, _ in changes)]
            if not changes:
                await follower.wait(0.1)
    return found


@pytest.mark.parametrize("preload", [0, 5, 1_000])
async def test_a_feed_reads_the_parent_first(log: Writer, preload: int) -> None:
    """From a cursor from before the growth, whatever of the log is in memory."""
    async with Feed(log.servers, {}) as feed:
        before = feed.beginning()
    expected = await grown(log)
    async with Feed(log.servers, {}, preload=preload) as feed:
        follower = Follower(feed, EventFilter("acme"), before)
        await follower.start()
        found = await read(follower, len(expected) + 2)
        assert len(follower.cursor.positions) == 2
    assert [one for one in found if one[0] == MOVES] == expected


async def test_a_feed_notices_added_partitions(log: Writer) -> None:
    """Also for who comes with a cursor from a reader that noticed them earlier."""
    await log.write(MOVES)
    async with Feed(log.servers, {}) as feed:
        before = feed.beginning()
        live, early = (Follower(feed, EventFilter("acme"), since) for since in (None, before.extended(2)))
        filtered = Follower(feed, EventFilter.of("acme", channels=MOVES), before)
        for follower in (live, filtered):
            await follower.start()
        assert len(filtered.cursor.positions) == 1
        expected = await grown(log)
        await early.start()
        found = await read(early, len(expected) + 2), await read(live, len(expected) + 1)
        assert await read(filtered, len(expected)) == expected
    moved = [[one for one in each if one[0] == MOVES] for each in found]
    assert moved == [expected, expected[1:]]

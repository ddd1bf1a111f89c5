"""A subscriber that decodes a long fetch leaves the program's other tasks their turns, and loses nothing by it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord

from contracts import topics
from contracts.cursor import EventFilter, Position, PositionTracker
from contracts.kafka.changes import Changes

SOURCE = TopicPartition(topics.EVENTS.name, 0)


def record(offset: int, account: str) -> Any:
    event = {
        "specversion": "1.0",
        "id": f"event-{offset}",
        "type": "SmsActivated",
        "source": "switchboard",
        "subject": f"ch-{offset}",
        "time": "2026-11-22T08:00:00.000Z",
        "accountid": account,
        "commandtype": "ToggleSms",
        "causationid": "c",
        "correlationid": "c",
        "sequence": 1,
        "partitionsequence": offset + 1,
        "previoushash": "0" * 64,
        "resource": "sms",
        "data": {},
    }
    value = json.dumps(event).encode()
    return ConsumerRecord(SOURCE.topic, 0, offset, 0, 0, b"k", value, None, -1, len(value), ())


def fetched(count: int, account: str) -> Changes:
    """An iterator that has fetched what it is about to decode."""
    changes = Changes({}, None, "now", EventFilter("acme"), endless=False)
    changes._consumer, changes._tracker = object(), PositionTracker("cluster", [Position(0, 0)])
    changes._buffer.extend(record(offset, account) for offset in range(count))
    return changes


async def test_other_tasks_have_turns_while_other_accounts_events_are_passed_over() -> None:
    changes, turns = fetched(1_000, "other"), 0
    changes._buffer.append(record(1_000, "acme"))

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    found = await anext(changes)
    beside.cancel()

    assert (found.offset, found.event.partitionsequence) == (1_000, 1_001)
    assert turns > 20


async def test_a_reader_that_is_cancelled_between_two_changes_loses_none() -> None:
    changes, found = fetched(100, "acme"), list[int]()
    while len(found) < 100:
        reading = asyncio.create_task(anext(changes))
        await asyncio.sleep(0)
        if not reading.done():
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            reading = asyncio.create_task(anext(changes))
        found.append((await reading).offset)

    assert found == list(range(100))

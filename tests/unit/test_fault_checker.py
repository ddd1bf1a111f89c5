"""The fault suite's checker, checked: a sound log passes, and whatever is broken in it is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from contracts import topics
from contracts.business_system import OpenBusinessSystem
from contracts.channel import RegisterChannel
from contracts.sms import ToggleSms
from services.decider.partition_state import CHECKPOINT_KEY
from tests.faults.checker import Answer, violations
from tests.faults.log import Log, LogRecord, Place, Writer
from tests.unit.decider.partition import CHANNEL, HOME, PARTITIONS, Incoming, Partition, Stored, envelope

Break = Callable[[Log], object]


def _records(topic: topics.Topic, stored: list[Stored] | list[Incoming]) -> list[LogRecord]:
    return [LogRecord(Place(topic.name, HOME, one.offset), one.key, one.value, dict(one.headers)) for one in stored]


@pytest.fixture(scope="module")
def sound() -> Log:
    """What a decider leaves behind: accepted, rejected, repeated, reused, invalid and unreadable commands."""
    partition = Partition()
    crm = OpenBusinessSystem(system="crm", name="CRM", api_request_url="https://crm.example/")
    registration = RegisterChannel(channel_type="viber", name="Shop", enterprise_authenticated=True)
    values: list[dict[str, Any] | bytes] = [
        envelope(registration, "register"),
        envelope(crm, "open"),
        envelope(ToggleSms(enabled=True), "on"),
        envelope(ToggleSms(enabled=True), "on"),
        envelope(ToggleSms(enabled=False), "on"),
        b"no command",
        envelope("MakeCoffee", "coffee"),
        envelope(crm, "again"),
        envelope(ToggleSms(enabled=False), "off", expectedversion=4),
    ]
    incoming = [partition.incoming(value) for value in values]
    for number in range(0, len(incoming), 3):
        partition.commit(incoming[number : number + 3])
    log = Log(PARTITIONS)
    log.records[topics.COMMANDS.name, HOME] = _records(topics.COMMANDS, incoming)
    for topic in (topics.EVENTS, topics.OUTCOMES, topics.CHANNEL_STATE, topics.SIGNATURES, topics.DEAD_LETTERS):
        log.records[topic.name, HOME] = _records(topic, partition.read(topic.name))
        log.writers[topic.name, HOME] = [(0, Writer(1, 1)), (3, Writer(1, 1)), (6, Writer(1, 2))]
    return log


def _of(log: Log, topic: topics.Topic) -> list[LogRecord]:
    return log.records[topic.name, HOME]


def _change(log: Log, topic: topics.Topic, number: int, **facts: Any) -> None:
    """Changes attributes of the record's envelope."""
    records = _of(log, topic)
    value = json.dumps(json.loads(records[number].value or b"") | facts).encode()
    records[number] = replace(records[number], value=value)


def _number(log: Log, key: bytes) -> int:
    """The number of the last state record with that key."""
    return max(number for number, record in enumerate(_of(log, topics.CHANNEL_STATE)) if record.key == key)


def test_a_sound_log(sound: Log) -> None:
    assert len(_of(sound, topics.EVENTS)) == 5
    assert violations(sound) == []


_BROKEN: dict[str, tuple[Break, str]] = {
    "an outcome lost": (
        lambda log: _of(log, topics.OUTCOMES).pop(1),
        f"1: partition {HOME}: command open on {CHANNEL} has 1 outcomes too few",
    ),
    "an outcome twice": (
        lambda log: _of(log, topics.OUTCOMES).append(_of(log, topics.OUTCOMES)[1]),
        f"outcomes too many, at switchboard.outcomes/{HOME}/1, switchboard.outcomes/{HOME}/1",
    ),
    "answered in another order": (
        lambda log: _of(log, topics.OUTCOMES).reverse(),
        f"1: partition {HOME}: commands were answered in another order than they came in",
    ),
    "a repeat decided anew": (
        lambda log: _change(log, topics.OUTCOMES, 3, repeated=False),
        f"1: switchboard.outcomes/{HOME}/3 decides command on on {CHANNEL} a second time",
    ),
    "a repeat with another answer": (
        lambda log: _change(log, topics.OUTCOMES, 3, data={"version": 9, "events": []}),
        f"1: switchboard.outcomes/{HOME}/3 decides command on on {CHANNEL} a second time",
    ),
    "a dead letter lost": (
        lambda log: _of(log, topics.DEAD_LETTERS).clear(),
        f"1: switchboard.commands/{HOME}/5 has no dead letter",
    ),
    "an event lost": (
        lambda log: _of(log, topics.EVENTS).pop(2),
        f"2: switchboard.events/{HOME}/3 has partitionsequence 4, not 3",
    ),
    "an event twice": (
        lambda log: _of(log, topics.EVENTS).insert(3, _of(log, topics.EVENTS)[2]),
        f"2: switchboard.events/{HOME}/2 has sequence 3 on {CHANNEL}, not 4",
    ),
    "an event that no outcome names": (
        lambda log: _change(log, topics.OUTCOMES, 2, data={"version": 4, "events": []}),
        f"of on on {CHANNEL} names it",
    ),
    "an outcome whose event is not there": (
        lambda log: _of(log, topics.EVENTS).pop(),
        f"3: the outcome of off on {CHANNEL} names 1 events that are not there",
    ),
    "a state that is not the fold": (
        lambda log: _change(log, topics.CHANNEL_STATE, _number(log, CHANNEL.encode()), name="Other"),
        f"4: partition {HOME}: the state record {CHANNEL} is not the fold of its events",
    ),
    "a checkpoint that is behind": (
        lambda log: _of(log, topics.CHANNEL_STATE).pop(_number(log, CHECKPOINT_KEY)),
        f"4: partition {HOME}: the checkpoint is at 6, before switchboard.commands/{HOME}/8",
    ),
    "a secret lost": (
        lambda log: _of(log, topics.SIGNATURES).clear(),
        f"4: partition {HOME}: the secret of {CHANNEL}/crm/key-1 is gone",
    ),
    "a change that was not expected": (
        lambda log: _change(log, topics.COMMANDS, 8, expectedversion=2),
        f"5: switchboard.events/{HOME}/4 expected version 2, not 4",
    ),
    "a fenced owner that writes": (
        lambda log: log.writers[topics.EVENTS.name, HOME].append((9, Writer(1, 1))),
        f"7: switchboard.events/{HOME}/9 is of an owner that was followed by another",
    ),
    "a byte of an event": (
        lambda log: _change(log, topics.EVENTS, 1, actor="somebody else"),
        f"11: switchboard.events/{HOME}/2 does not name the hash of the event before it on {CHANNEL}",
    ),
}


@pytest.fixture(params=_BROKEN, ids=lambda name: name)
def broken(request: pytest.FixtureRequest, sound: Log) -> tuple[Log, str]:
    log = deepcopy(sound)
    change, sentence = _BROKEN[request.param]
    change(log)
    return log, sentence


def test_what_is_broken_is_named(broken: tuple[Log, str]) -> None:
    log, sentence = broken

    assert [found for found in violations(log) if sentence in found] != []


def test_what_a_publisher_was_told_is_on_the_log(sound: Log) -> None:
    told = json.loads(_of(sound, topics.OUTCOMES)[0].value or b"")["data"]

    assert violations(sound, [Answer(CHANNEL, "register", told)]) == []
    assert violations(sound, [Answer(CHANNEL, "register", told | {"version": 2})]) == [
        f"1: a publisher was told of register on {CHANNEL} what the log does not say"
    ]

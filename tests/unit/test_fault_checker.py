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
from contracts.channel import EditChannel, RegisterChannel
from contracts.partitioner import partition_of
from contracts.sms import ToggleSms
from services.decider.partition_state import CHECKPOINT_KEY
from tests.faults.checker import Answer, violations
from tests.faults.log import Log, LogRecord, Place, Writer
from tests.unit.decider.partition import CHANNEL, ELSEWHERE, HOME, PARTITIONS, Incoming, Partition, Stored, envelope

AWAY = partition_of(ELSEWHERE, PARTITIONS)
Break = Callable[[Log], object]


def _records(topic: topics.Topic, partition: int, stored: list[Stored] | list[Incoming]) -> list[LogRecord]:
    return [
        LogRecord(Place(topic.name, partition, one.offset), one.key, one.value, dict(one.headers)) for one in stored
    ]


@pytest.fixture(scope="module")
def sound() -> Log:
    """What a decider leaves behind: accepted, rejected, repeated, reused, invalid, unreadable, misrouted, dry."""
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
        envelope(ToggleSms(enabled=True), "dry", dryrun=True),
        envelope(ToggleSms(enabled=True), "astray", subject=ELSEWHERE),
        envelope(ToggleSms(enabled=True), "on"),
        envelope(ToggleSms(enabled=True), "stale", expectedversion=4),
        envelope(EditChannel(name="Kiosk"), "edit"),
    ]
    incoming = [partition.incoming(value) for value in values]
    for number in range(0, len(incoming), 3):
        partition.commit(incoming[number : number + 3])
    log = Log(PARTITIONS)
    _add(log, partition, incoming)
    [forwarded] = partition.forwarded
    other = Partition(number=forwarded.partition)
    came = [Incoming(0, forwarded.key, forwarded.value, forwarded.headers)]
    other.commit(came)
    _add(log, other, came)
    return log


def _add(log: Log, partition: Partition, incoming: list[Incoming]) -> None:
    log.records[topics.COMMANDS.name, partition.number] = _records(topics.COMMANDS, partition.number, incoming)
    for topic in (topics.EVENTS, topics.OUTCOMES, topics.CHANNEL_STATE, topics.SIGNATURES, topics.DEAD_LETTERS):
        stored = partition.read(topic.name)
        log.records[topic.name, partition.number] = _records(topic, partition.number, stored)
        log.writers[topic.name, partition.number] = [(0, Writer(1, 1)), (3, Writer(1, 1)), (6, Writer(1, 2))]


def _of(log: Log, topic: topics.Topic) -> list[LogRecord]:
    return log.records[topic.name, HOME]


def _change(log: Log, topic: topics.Topic, number: int, **facts: Any) -> None:
    """Changes attributes of the record's envelope."""
    records = _of(log, topic)
    value = json.dumps(json.loads(records[number].value or b"") | facts).encode()
    records[number] = replace(records[number], value=value)


def _replace(log: Log, topic: topics.Topic, number: int, **facts: Any) -> None:
    """Changes the record itself."""
    _of(log, topic)[number] = replace(_of(log, topic)[number], **facts)


def _swap(log: Log, topic: topics.Topic, one: int, other: int) -> None:
    records = _of(log, topic)
    records[one], records[other] = records[other], records[one]


def _data(log: Log, number: int) -> Any:
    """The data of an outcome."""
    return json.loads(_of(log, topics.OUTCOMES)[number].value or b"")["data"]


def _first(log: Log, key: bytes) -> int:
    """The number of the first state record with that key."""
    return min(number for number, record in enumerate(_of(log, topics.CHANNEL_STATE)) if record.key == key)


def _number(log: Log, key: bytes) -> int:
    """The number of the last state record with that key."""
    return max(number for number, record in enumerate(_of(log, topics.CHANNEL_STATE)) if record.key == key)


def test_a_sound_log(sound: Log) -> None:
    assert len(_of(sound, topics.EVENTS)) == 6
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
        f"3: the outcome of edit on {CHANNEL} names 1 events that are not there",
    ),
    "a state that is not the fold": (
        lambda log: _change(log, topics.CHANNEL_STATE, _number(log, CHANNEL.encode()), name="Other"),
        f": the state record {CHANNEL} is not the fold of its events",
    ),
    "a checkpoint that is behind": (
        lambda log: _of(log, topics.CHANNEL_STATE).pop(_number(log, CHECKPOINT_KEY)),
        f"4: partition {HOME}: the checkpoint is at 12, before switchboard.commands/{HOME}/13",
    ),
    "a secret lost": (
        lambda log: _of(log, topics.SIGNATURES).clear(),
        f"4: partition {HOME}: the secret of {CHANNEL}/crm/key-1 is gone",
    ),
    "a change that was not expected": (
        lambda log: _change(log, topics.COMMANDS, 8, expectedversion=2),
        f"5: switchboard.outcomes/{HOME}/7 expected version 2, not 4",
    ),
    "a fenced owner that writes": (
        lambda log: log.writers[topics.EVENTS.name, HOME].append((9, Writer(1, 1))),
        f"7: switchboard.events/{HOME}/9 is of an owner that was followed by another",
    ),
    "a byte of an event": (
        lambda log: _change(log, topics.EVENTS, 1, actor="somebody else"),
        f"11: switchboard.events/{HOME}/2 does not name the hash of the event before it on {CHANNEL}",
    ),
    "a byte of the last event": (
        lambda log: _change(log, topics.EVENTS, -1, actor="somebody else"),
        f"11: channel-state does not hold the hash of the last event on {CHANNEL}",
    ),
    "a state that was not the fold for a while": (
        lambda log: _change(log, topics.CHANNEL_STATE, _first(log, CHANNEL.encode()), name="Other"),
        f": the state record {CHANNEL} is not the fold of its events",
    ),
    "a state that another transaction holds": (
        lambda log: _swap(log, topics.CHANNEL_STATE, _number(log, CHANNEL.encode()), _number(log, CHECKPOINT_KEY)),
        f": the state record {CHANNEL} is not the fold of its events",
    ),
    "a checkpoint that was behind for a while": (
        lambda log: _change(log, topics.CHANNEL_STATE, _first(log, CHECKPOINT_KEY), next_offset=2),
        "the checkpoint counts 4 events, but 3 come of the commands before it",
    ),
    "a checkpoint that goes back": (
        lambda log: _change(log, topics.CHANNEL_STATE, _number(log, CHECKPOINT_KEY), next_offset=3),
        "the checkpoint is at offset 3, after one at 12",
    ),
    "a secret that a deletion left": (
        lambda log: _of(log, topics.SIGNATURES).append(
            replace(_of(log, topics.SIGNATURES)[0], key=f"{CHANNEL}/erp/key-9".encode())
        ),
        f"a secret of {CHANNEL}/erp/key-9, which no event drew or one deleted",
    ),
    "a dead letter that was touched": (
        lambda log: _replace(log, topics.DEAD_LETTERS, 0, value=b"no Command"),
        f"1: switchboard.dead-letters/{HOME}/0 is not switchboard.commands/{HOME}/5 as it came",
    ),
    "a dead letter of a good command": (
        lambda log: _replace(log, topics.DEAD_LETTERS, 0, headers={"offset": b"6"}),
        f"1: switchboard.commands/{HOME}/6 has a dead letter too many",
    ),
    "a forward lost": (
        lambda log: log.records[topics.COMMANDS.name, AWAY].clear(),
        f"1: partition {HOME}: 1 commands were not forwarded home, 0 were too often",
    ),
    "a forward twice": (
        lambda log: log.records[topics.COMMANDS.name, AWAY].append(log.records[topics.COMMANDS.name, AWAY][0]),
        f"1: partition {HOME}: 0 commands were not forwarded home, 1 were too often",
    ),
    "an invalid command that was decided": (
        lambda log: _change(log, topics.OUTCOMES, 5, type="CommandAccepted", data={"version": 4, "events": []}),
        f"1: switchboard.outcomes/{HOME}/5 answers an invalid command as if it were none",
    ),
    "another command under a used id that was decided": (
        lambda log: _change(log, topics.OUTCOMES, 4, type="CommandAccepted", data={"version": 4, "events": []}),
        f"1: switchboard.outcomes/{HOME}/4 takes another command under id on on {CHANNEL}",
    ),
    "a good command that is called a reused id": (
        lambda log: _change(
            log, topics.OUTCOMES, 6, data={"rejection": "CommandIdReused", "message": "", "version": 4}
        ),
        f"1: switchboard.outcomes/{HOME}/6 calls itself a repeat, or its command invalid, and it is neither",
    ),
    "an answer that would not be remembered": (
        lambda log: _replace(log, topics.OUTCOMES, 7, headers={}),
        f"1: switchboard.outcomes/{HOME}/7 has no digest, although it was decided",
    ),
    "another account's answer": (
        lambda log: _change(log, topics.OUTCOMES, 7, accountid="other"),
        f"1: switchboard.outcomes/{HOME}/7 is not in the name of the account and channel that asked",
    ),
    "a rejection that is called accepted": (
        lambda log: _change(log, topics.OUTCOMES, 6, type="CommandAccepted"),
        f"1: switchboard.outcomes/{HOME}/6 is called CommandAccepted, and is none",
    ),
    "a dry run answered as a real one": (
        lambda log: _change(log, topics.OUTCOMES, 8, data={"version": 5, "events": []}),
        f"1: switchboard.outcomes/{HOME}/8 answers a dry run as a real one, or a real one as dry",
    ),
    "an outcome with an old version": (
        lambda log: _change(log, topics.OUTCOMES, 11, data=_data(log, 11) | {"version": 5}),
        f"3: switchboard.outcomes/{HOME}/11 says version 5, not 6",
    ),
    "events in another order than their outcomes": (
        lambda log: _swap(log, topics.EVENTS, 0, 1),
        f"3: partition {HOME}: events lie in another order than their outcomes name them in",
    ),
    "an event where its channel does not live": (
        lambda log: _replace(log, topics.EVENTS, 1, key=ELSEWHERE.encode()),
        f"2: switchboard.events/{HOME}/1 is not where {CHANNEL} lives, or not under its key",
    ),
    "an event before the one before it": (
        lambda log: _change(log, topics.EVENTS, 5, time="2020-01-01T00:00:00.000Z"),
        f"2: switchboard.events/{HOME}/5 is earlier than the event before it on {CHANNEL}",
    ),
    "a version yet to come that was accepted": (
        lambda log: _change(log, topics.COMMANDS, 8, expectedversion=9),
        f"5: switchboard.outcomes/{HOME}/7 was accepted at version 4, but expected version 9",
    ),
    "a stale dry run that was accepted": (
        lambda log: _change(log, topics.COMMANDS, 9, expectedversion=4),
        f"5: switchboard.outcomes/{HOME}/8 expected version 4, not 5",
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


def test_what_the_broker_said_to_have_is_on_the_log(sound: Log) -> None:
    there = _of(sound, topics.COMMANDS)[0].value or b""

    assert violations(sound, published=[there]) == []
    assert violations(sound, published=[there, b"gone"]) == [
        "1: 1 commands are not on the log, although the broker said that it had them"
    ]

"""The fault suite's checker, checked: a sound log passes, and whatever is broken in it is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from contracts import topics
from contracts.partitioner import partition_of
from services.domain.state_topic import CHECKPOINT_KEY
from tests.faults.decider.checker import ReportedOutcome, violations
from tests.faults.decider.log_reader import Log, LogRecord, Writer
from tests.unit.decider.partition import CHANNEL, ELSEWHERE, HOME, PARTITIONS
from tests.unit.faults.sound_log import sound_log

AWAY = partition_of(ELSEWHERE, PARTITIONS)
Break = Callable[[Log], object]


@pytest.fixture(scope="module")
def sound() -> Log:
    return sound_log()


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
        f"1: partition {HOME}: command open on {CHANNEL} lacks outcomes: 1",
    ),
    "an outcome twice": (
        lambda log: _of(log, topics.OUTCOMES).append(_of(log, topics.OUTCOMES)[1]),
        f"has extra outcomes: 1, at switchboard.outcomes/{HOME}/1, switchboard.outcomes/{HOME}/1",
    ),
    "answered in another order": (
        lambda log: _of(log, topics.OUTCOMES).reverse(),
        f"1: partition {HOME}: commands were answered in a different order from the one they arrived in",
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
        f"3: the outcome of edit on {CHANNEL} names events that do not exist: 1",
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
        f"7: switchboard.events/{HOME}/9 was written by an owner that had been replaced",
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
        "the checkpoint counts 4 events, but the commands before it appended 3",
    ),
    "a checkpoint that goes back": (
        lambda log: _change(log, topics.CHANNEL_STATE, _number(log, CHECKPOINT_KEY), next_offset=3),
        "the checkpoint is at offset 3, after one at 12",
    ),
    "a secret that a deletion left": (
        lambda log: _of(log, topics.SIGNATURES).append(
            replace(_of(log, topics.SIGNATURES)[0], key=f"{CHANNEL}/erp/key-9".encode())
        ),
        f"a secret of {CHANNEL}/erp/key-9, which no event issued or an event deleted",
    ),
    "a dead letter that was touched": (
        lambda log: _replace(log, topics.DEAD_LETTERS, 0, value=b"no Command"),
        f"1: switchboard.dead-letters/{HOME}/0 differs from switchboard.commands/{HOME}/5",
    ),
    "a dead letter of a good command": (
        lambda log: _replace(log, topics.DEAD_LETTERS, 0, headers={"offset": b"6"}),
        f"1: switchboard.commands/{HOME}/6 has an extra dead letter",
    ),
    "a forward lost": (
        lambda log: log.records[topics.COMMANDS.name, AWAY].clear(),
        f"1: partition {HOME}: commands not forwarded: 1, forwarded more than once: 0",
    ),
    "a forward twice": (
        lambda log: log.records[topics.COMMANDS.name, AWAY].append(log.records[topics.COMMANDS.name, AWAY][0]),
        f"1: partition {HOME}: commands not forwarded: 0, forwarded more than once: 1",
    ),
    "an invalid command that was decided": (
        lambda log: _change(log, topics.OUTCOMES, 5, type="CommandAccepted", data={"version": 4, "events": []}),
        f"1: switchboard.outcomes/{HOME}/5 answers an invalid command as a valid one",
    ),
    "another command under a used id that was decided": (
        lambda log: _change(log, topics.OUTCOMES, 4, type="CommandAccepted", data={"version": 4, "events": []}),
        f"1: switchboard.outcomes/{HOME}/4 does not reject a different command under id on on {CHANNEL}",
    ),
    "a good command that is called a reused id": (
        lambda log: _change(
            log, topics.OUTCOMES, 6, data={"rejection": "CommandIdReused", "message": "", "version": 4}
        ),
        f"1: switchboard.outcomes/{HOME}/6 is marked as a repeat or as invalid, and is neither",
    ),
    "an answer that would not be remembered": (
        lambda log: _replace(log, topics.OUTCOMES, 7, headers={}),
        f"1: switchboard.outcomes/{HOME}/7 has no digest, although its command was decided",
    ),
    "another account's answer": (
        lambda log: _change(log, topics.OUTCOMES, 7, accountid="other"),
        f"1: switchboard.outcomes/{HOME}/7 does not belong to the account and channel of its command",
    ),
    "a rejection that is called accepted": (
        lambda log: _change(log, topics.OUTCOMES, 6, type="CommandAccepted"),
        f"1: switchboard.outcomes/{HOME}/6 has the wrong type CommandAccepted",
    ),
    "a dry run answered as a real one": (
        lambda log: _change(log, topics.OUTCOMES, 8, data={"version": 5, "events": []}),
        f"1: switchboard.outcomes/{HOME}/8 answers a dry run like a real run, or a real run like a dry run",
    ),
    "an outcome with an old version": (
        lambda log: _change(log, topics.OUTCOMES, 11, data=_data(log, 11) | {"version": 5}),
        f"3: switchboard.outcomes/{HOME}/11 has version 5, not 6",
    ),
    "events in another order than their outcomes": (
        lambda log: _swap(log, topics.EVENTS, 0, 1),
        f"3: partition {HOME}: the order of the events differs from the order in their outcomes",
    ),
    "an event where its channel does not live": (
        lambda log: _replace(log, topics.EVENTS, 1, key=ELSEWHERE.encode()),
        f"2: switchboard.events/{HOME}/1 is not on the partition of {CHANNEL}, or not under its key",
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

    assert violations(sound, [ReportedOutcome(CHANNEL, "register", told)]) == []
    assert violations(sound, [ReportedOutcome(CHANNEL, "register", told | {"version": 2})]) == [
        f"1: a publisher returned an outcome of register on {CHANNEL} that is not on the log"
    ]


def test_what_the_broker_said_to_have_is_on_the_log(sound: Log) -> None:
    there = _of(sound, topics.COMMANDS)[0].value or b""

    assert violations(sound, published=[there]) == []
    assert violations(sound, published=[there, b"gone"]) == [
        "1: commands that the broker acknowledged are not on the log: 1"
    ]

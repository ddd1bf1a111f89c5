"""Checks the log after a round: reads the real topics and describes each violated invariant in a sentence.

The numbers of the invariants are those of the design: 1 each command has one first outcome, and repeats of its id
have the same one; 2 sequences have no gap; 3 a command's events and its outcome are written in one transaction;
4 channel-state is the fold of the events after every transaction (`channel_state_check`); 5 no accepted command
overlooked a change that it did not expect, or expected a future version; 7 a fenced owner writes no event;
11 the hash chain.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from hashlib import sha256
from itertools import chain
from typing import Any, NamedTuple

from contracts import topics
from contracts.envelope import GENESIS, CommandEnvelope, EventEnvelope
from contracts.partitioner import partition_of
from contracts.resources import on_same_path
from tests.faults.decider.channel_state_check import ChannelStateCheck
from tests.faults.decider.expected_results import ReceivedCommand, expected_results
from tests.faults.decider.log_reader import Log, LogPosition, LogRecord, Writer


class ReportedOutcome(NamedTuple):
    """An outcome as a publisher returned it to its caller."""

    channel: str
    command_id: str
    data: dict[str, Any]


def violations(log: Log, reported: Iterable[ReportedOutcome] = (), published: Iterable[bytes] = ()) -> list[str]:
    """All violations of the invariants. Call it when every published command is decided.

    ``reported`` are the outcomes that publishers returned, ``published`` the values that the broker acknowledged.
    """
    found: list[Iterable[str]] = [
        _reported_outcomes_are_logged(log, reported),
        _published_commands_are_logged(log, published),
    ]
    for partition in range(log.partitions):
        checks = _Partition(log, partition)
        found += [
            checks.commands_are_answered(),
            checks.dead_letters_match(),
            checks.forwards_match(),
            checks.outcomes_match(),
            checks.sequences_have_no_gap(),
            checks.events_have_outcomes(),
            checks.outcome_versions_match(),
            checks.channel_state().violations(),
            checks.expected_versions_held(),
            checks.fenced_owners_write_nothing(),
        ]
    return list(chain.from_iterable(found))


class _Partition:
    def __init__(self, log: Log, partition: int) -> None:
        self._log, self._partition = log, partition
        self._outcomes = [(record, json.loads(record.value or b"{}")) for record in log.of(topics.OUTCOMES, partition)]
        self._events = [
            (record, EventEnvelope.model_validate_json(record.value or b"{}"))
            for record in log.of(topics.EVENTS, partition)
        ]
        self._expected = expected_results(log.of(topics.COMMANDS, partition), partition, log.partitions)
        self._answered = [(outcome["subject"], outcome["causationid"]) for _, outcome in self._outcomes]
        self._pairs: list[tuple[ReceivedCommand, LogRecord, dict[str, Any]]] = []
        """Each command with its outcome; empty if they do not match, which is a violation in itself."""
        if self._answered == [received.key for received in self._expected.received]:
            self._pairs = [
                (received, record, outcome)
                for received, (record, outcome) in zip(self._expected.received, self._outcomes, strict=True)
            ]
        self._by_channel: dict[str, list[EventEnvelope]] = defaultdict(list)
        for _, event in self._events:
            self._by_channel[event.subject].append(event)

    def commands_are_answered(self) -> Iterator[str]:
        """1: each command has one outcome, in the order of the commands."""
        ids = [received.key for received in self._expected.received]
        expected, actual = Counter(ids), Counter(self._answered)
        partition = f"partition {self._partition}"
        for (channel, command), count in (expected - actual).items():
            yield f"1: {partition}: command {command} on {channel} lacks outcomes: {count}"
        for (channel, command), count in (actual - expected).items():
            positions = [str(record.position) for record, one in self._outcomes if one["causationid"] == command]
            extra = f"{count}, at {', '.join(positions)}"
            yield f"1: {partition}: command {command} on {channel} has extra outcomes: {extra}"
        if expected == actual and ids != self._answered:
            yield f"1: {partition}: commands were answered in a different order from the one they arrived in"

    def dead_letters_match(self) -> Iterator[str]:
        """1: exactly the unreadable records are dead letters, with their key and bytes unchanged."""
        letters: dict[int, list[LogRecord]] = defaultdict(list)
        for record in self._log.of(topics.DEAD_LETTERS, self._partition):
            letters[int(record.headers["offset"])].append(record)
        for offset in self._expected.dead_letters.keys() | letters.keys():
            position = LogPosition(topics.COMMANDS.name, self._partition, offset)
            origin, found = self._expected.dead_letters.get(offset), letters[offset]
            if origin is not None and not found:
                yield f"1: {position} has no dead letter"
            elif origin is None or len(found) > 1:
                yield f"1: {position} has an extra dead letter"
            elif (found[0].key, found[0].value) != (origin.key, origin.value):
                yield f"1: {found[0].position} differs from {position}"

    def forwards_match(self) -> Iterator[str]:
        """1: a command on the wrong partition was forwarded once to its own, under its channel's key."""
        here = str(self._partition).encode()
        forwarded: Counter[tuple[int, bytes]] = Counter()
        for own_partition in range(self._log.partitions):
            for record in self._log.of(topics.COMMANDS, own_partition):
                if record.headers.get("switchboard-forwarded") != here:
                    continue
                forwarded[own_partition, record.value or b""] += 1
                if partition_of((record.key or b"").decode(), self._log.partitions) != own_partition:
                    yield f"1: {record.position} was forwarded to a partition that is not its key's"
        lost, doubled = self._expected.forwards - forwarded, forwarded - self._expected.forwards
        if lost or doubled:
            yield (
                f"1: partition {self._partition}: commands not forwarded: {lost.total()}, "
                f"forwarded more than once: {doubled.total()}"
            )

    def outcomes_match(self) -> Iterator[str]:
        """1: each outcome is of the kind that its command must have: invalid, decided, repeated, or a reused id."""
        first: dict[tuple[str, str, str], tuple[str, bytes | None, Any]] = {}
        for received, record, outcome in self._pairs:
            data, digest = outcome["data"], record.headers.get("digest")
            repeated, rejection = outcome.get("repeated", False), data.get("rejection")
            if (outcome["accountid"], record.key) != (received.envelope.accountid, received.envelope.subject.encode()):
                yield f"1: {record.position} does not belong to the account and channel of its command"
            if outcome["type"] != ("CommandAccepted" if rejection is None else "CommandRejected"):
                yield f"1: {record.position} has the wrong type {outcome['type']}"
            if received.command is None:
                if rejection != "InvalidCommand" or digest is not None or repeated:
                    yield f"1: {record.position} answers an invalid command as a valid one"
                continue
            known = first.get(received.account_key)
            if rejection == "ChannelUnknown":
                if digest is not None or repeated or known is not None:
                    yield f"1: {record.position} remembers a command to a channel that is unknown"
            elif known is None:
                first[received.account_key] = (received.content, digest, data)
                yield from _first_outcome_violations(received, record, outcome)
            elif received.content == known[0]:
                if not repeated or (digest, data) != known[1:]:
                    yield f"1: {record.position} decides command {received.key[1]} on {received.key[0]} a second time"
            elif rejection != "CommandIdReused" or digest is not None or repeated:
                channel, command_id = received.key
                yield f"1: {record.position} does not reject a different command under id {command_id} on {channel}"

    def sequences_have_no_gap(self) -> Iterator[str]:
        """2 and 11: no gap, no repeat, and every event names the hash of the one before it."""
        heads: dict[str, tuple[int, str, str]] = defaultdict(lambda: (0, GENESIS, ""))
        for number, (record, event) in enumerate(self._events, 1):
            version, head, time = heads[event.subject]
            own_partition = partition_of(event.subject, self._log.partitions)
            if (record.key, self._partition) != (event.subject.encode(), own_partition):
                yield f"2: {record.position} is not on the partition of {event.subject}, or not under its key"
            if event.partitionsequence != number:
                yield f"2: {record.position} has partitionsequence {event.partitionsequence}, not {number}"
            if event.sequence != version + 1:
                yield f"2: {record.position} has sequence {event.sequence} on {event.subject}, not {version + 1}"
            if event.previoushash != head:
                yield f"11: {record.position} does not name the hash of the event before it on {event.subject}"
            if event.time < time:
                yield f"2: {record.position} is earlier than the event before it on {event.subject}"
            heads[event.subject] = (event.sequence, sha256(record.value or b"").hexdigest(), event.time)

    def events_have_outcomes(self) -> Iterator[str]:
        """3: an outcome names the ids of exactly the events of its command, in their order."""
        named: dict[tuple[str, str], list[str]] = {}
        for _, outcome in self._outcomes:
            if not outcome.get("repeated"):
                ids = outcome["data"].get("events", [])
                named.setdefault((outcome["subject"], outcome["causationid"]), []).extend(ids)
        happened: dict[tuple[str, str], list[str]] = defaultdict(list)
        positions: dict[str, LogPosition] = {}
        for record, event in self._events:
            happened[event.subject, event.causationid].append(event.id)
            positions[event.id] = record.position
        for key in named.keys() | happened.keys():
            lost = [one for one in named.get(key, ()) if one not in happened.get(key, ())]
            alone = [str(positions[one]) for one in happened.get(key, ()) if one not in named.get(key, ())]
            if lost:
                yield f"3: the outcome of {key[1]} on {key[0]} names events that do not exist: {len(lost)}"
            if alone:
                yield f"3: {', '.join(alone)}: no outcome of {key[1]} on {key[0]} names it"
        in_order = [one for _, _, outcome in self._firsts() for one in outcome["data"].get("events", ())]
        if (
            self._pairs
            and not (set(in_order) ^ positions.keys())
            and in_order != [event.id for _, event in self._events]
        ):
            yield f"3: partition {self._partition}: the order of the events differs from the order in their outcomes"

    def _firsts(self) -> Iterator[tuple[ReceivedCommand, LogRecord, dict[str, Any]]]:
        return (pair for pair in self._pairs if not pair[2].get("repeated"))

    def outcome_versions_match(self) -> Iterator[str]:
        """3: a first outcome has the version after its own events; 0 if the channel is not the account's."""
        version: Counter[str] = Counter()
        for received, record, outcome in self._firsts():
            channel = received.envelope.subject
            version[channel] += len(outcome["data"].get("events", ()))
            events = self._by_channel[channel]
            account = events[0].accountid if version[channel] and events else None
            correct = version[channel] if account == received.envelope.accountid else 0
            if outcome["data"].get("rejection") != "InvalidCommand" and outcome["data"].get("version") != correct:
                yield f"3: {record.position} has version {outcome['data'].get('version')}, not {correct}"

    def channel_state(self) -> ChannelStateCheck:
        """4 and 11."""
        events = 0
        event_counts = []
        for received, _, outcome in self._pairs:
            events += 0 if outcome.get("repeated") else len(outcome["data"].get("events", ()))
            event_counts.append((received.offset, events))
        return ChannelStateCheck(self._log, self._partition, self._events, event_counts)

    def expected_versions_held(self) -> Iterator[str]:
        """5: between the expected version of an accepted command and its own events, nothing changed on the path of the
        command's resource or of a resource that it changed."""
        version: Counter[str] = Counter()
        for received, record, outcome in self._firsts():
            channel, before = received.envelope.subject, version[received.envelope.subject]
            ids = outcome["data"].get("events", ())
            version[channel] += len(ids)
            if received.command is None or outcome["type"] != "CommandAccepted":
                continue
            expected = received.envelope.expectedversion if isinstance(received.envelope, CommandEnvelope) else None
            if expected is None:
                continue
            if expected > before:
                yield f"5: {record.position} was accepted at version {before}, but expected version {expected}"
            paths = {received.command.resource}
            paths |= {event.resource for event in self._by_channel[channel] if event.id in ids}
            for other in self._by_channel[channel][expected:before]:
                if any(on_same_path(other.resource, path) for path in paths):
                    yield f"5: {record.position} expected version {expected}, not {other.sequence}"

    def fenced_owners_write_nothing(self) -> Iterator[str]:
        """7: an owner that was replaced never writes again."""
        for topic in (topics.EVENTS, topics.OUTCOMES, topics.CHANNEL_STATE, topics.SIGNATURES, topics.DEAD_LETTERS):
            replaced: set[Writer] = set()
            current: Writer | None = None
            for offset, writer in self._log.writers.get((topic.name, self._partition), ()):
                if writer != current and writer in replaced:
                    position = LogPosition(topic.name, self._partition, offset)
                    yield f"7: {position} was written by an owner that had been replaced"
                replaced.add(writer)
                current = writer


def _first_outcome_violations(received: ReceivedCommand, record: LogRecord, outcome: dict[str, Any]) -> Iterator[str]:
    """1: a first outcome has a digest, is no repeat, and is a dry run exactly if its command is one."""
    data = outcome["data"]
    if record.headers.get("digest") is None:
        yield f"1: {record.position} has no digest, although its command was decided"
    if outcome.get("repeated") or data.get("rejection") in ("InvalidCommand", "CommandIdReused"):
        yield f"1: {record.position} is marked as a repeat or as invalid, and is neither"
    dry = isinstance(received.envelope, CommandEnvelope) and bool(received.envelope.dryrun)
    if "rejection" not in data and data.keys() & {"events", "would_append"} != {"would_append" if dry else "events"}:
        yield f"1: {record.position} answers a dry run like a real run, or a real run like a dry run"


def _reported_outcomes_are_logged(log: Log, reported: Iterable[ReportedOutcome]) -> Iterator[str]:
    """1: the outcomes that publishers returned are those on the log."""
    logged: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for partition in range(log.partitions):
        for record in log.of(topics.OUTCOMES, partition):
            outcome = json.loads(record.value or b"{}")
            logged[outcome["subject"], outcome["causationid"]].append(outcome["data"])
    for outcome in reported:
        if outcome.data not in logged[outcome.channel, outcome.command_id]:
            command = f"{outcome.command_id} on {outcome.channel}"
            yield f"1: a publisher returned an outcome of {command} that is not on the log"


def _published_commands_are_logged(log: Log, published: Iterable[bytes]) -> Iterator[str]:
    """1: every command that the broker acknowledged is on the log."""
    there = {record.value for number in range(log.partitions) for record in log.of(topics.COMMANDS, number)}
    missing = sum(value not in there for value in published)
    if missing:
        yield f"1: commands that the broker acknowledged are not on the log: {missing}"

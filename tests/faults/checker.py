"""The one judge of every fault: reads the real topics, and says in a sentence what does not hold.

The invariants are numbered as in the design: 1 one first outcome for each command, and the same again for the same id;
2 sequences without a gap; 3 a command's events with its outcome or none; 4 channel-state is the fold of the events;
5 no accepted command passed over a change that it did not expect; 7 no event of a fenced owner; 11 the hash chain.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import chain
from typing import Any, NamedTuple, cast

from contracts import topics
from contracts.commands import Event
from contracts.envelope import (
    GENESIS,
    CommandEnvelope,
    EventEnvelope,
    Invalid,
    ReadableEnvelope,
    Unreadable,
    read_command,
)
from contracts.message import milliseconds_of
from contracts.partitioner import partition_of
from services.decider.partition_state import CHECKPOINT_KEY, Checkpoint, channel_key, system_key
from services.domain.decision import Mark
from services.domain.evolve import evolve
from services.domain.records import BUSINESS_SYSTEM, CHANNEL
from services.domain.state import ChannelState
from services.infrastructure.vault import SignatureAddress
from tests.faults.log import Log, Place, Writer

_OURS = b"~"
"""No channel's id begins with it: the checkpoint's key, and whatever else is not a channel's."""


class Answer(NamedTuple):
    """What a publisher was told."""

    channel: str
    command_id: str
    data: dict[str, Any]


def violations(log: Log, answers: Iterable[Answer] = ()) -> list[str]:
    """Everything that does not hold; to be asked when every command that was published is decided."""
    found: list[Iterable[str]] = [_answers_are_on_the_log(log, answers)]
    for partition in range(log.partitions):
        judged = _Partition(log, partition)
        found += [
            judged.commands_are_answered(),
            judged.answers_repeat(),
            judged.sequences_count(),
            judged.events_have_outcomes(),
            judged.state_is_the_fold(),
            judged.expectations_held(),
            judged.owners_took_turns(),
        ]
    return list(chain.from_iterable(found))


@dataclass(slots=True)
class _Incoming:
    """What each record of a partition's commands must have led to."""

    ids: list[tuple[str, str]] = field(default_factory=list)
    """(channel, command id), in order."""
    letters: list[int] = field(default_factory=list)
    forwards: Counter[tuple[int, bytes]] = field(default_factory=Counter)
    """(home, value)."""
    envelopes: dict[tuple[str, str], CommandEnvelope] = field(default_factory=dict)


class _Partition:
    def __init__(self, log: Log, partition: int) -> None:
        self._log, self._partition = log, partition
        self._outcomes = [(record, json.loads(record.value or b"{}")) for record in log.of(topics.OUTCOMES, partition)]
        self._events = [
            (record, EventEnvelope.model_validate_json(record.value or b"{}"))
            for record in log.of(topics.EVENTS, partition)
        ]
        self._incoming = self._sorted()

    def _sorted(self) -> _Incoming:
        found = _Incoming()
        for record in self._log.of(topics.COMMANDS, self._partition):
            envelope: CommandEnvelope | ReadableEnvelope
            try:
                envelope = read_command(record.value)
            except Unreadable:
                found.letters.append(record.place.offset)
                continue
            except Invalid as finding:
                envelope = finding.envelope
            home = partition_of(envelope.subject, self._log.partitions)
            if home == self._partition:
                found.ids.append((envelope.subject, envelope.id))
                if isinstance(envelope, CommandEnvelope):
                    found.envelopes.setdefault((envelope.subject, envelope.id), envelope)
            elif "forwarded" in record.headers:
                found.letters.append(record.place.offset)
            else:
                found.forwards[home, record.value or b""] += 1
        return found

    def commands_are_answered(self) -> Iterator[str]:
        """1: each command record led to one outcome, one dead letter or one forward, in its order."""
        answered = [(record.key or b"").decode() for record, _ in self._outcomes]
        told = list(zip(answered, (outcome["causationid"] for _, outcome in self._outcomes), strict=True))
        expected, actual = Counter(self._incoming.ids), Counter(told)
        at = f"partition {self._partition}"
        for (channel, command), count in (expected - actual).items():
            yield f"1: {at}: command {command} on {channel} has {count} outcomes too few"
        for (channel, command), count in (actual - expected).items():
            places = [str(record.place) for record, one in self._outcomes if one["causationid"] == command]
            yield f"1: {at}: command {command} on {channel} has {count} outcomes too many, at {', '.join(places)}"
        if expected == actual and self._incoming.ids != told:
            yield f"1: {at}: commands were answered in another order than they came in"
        letters = Counter(
            int(record.headers["offset"]) for record in self._log.of(topics.DEAD_LETTERS, self._partition)
        )
        for offset in Counter(self._incoming.letters) - letters:
            yield f"1: {Place(topics.COMMANDS.name, self._partition, offset)} has no dead letter"
        for offset in letters - Counter(self._incoming.letters):
            yield f"1: {Place(topics.COMMANDS.name, self._partition, offset)} has a dead letter too many"
        here = str(self._partition).encode()
        forwarded = Counter(
            (home, record.value or b"")
            for home in range(self._log.partitions)
            for record in self._log.of(topics.COMMANDS, home)
            if record.headers.get("forwarded") == here
        )
        if forwarded != self._incoming.forwards:
            lost, doubled = self._incoming.forwards - forwarded, forwarded - self._incoming.forwards
            yield f"1: {at}: {lost.total()} commands were not forwarded home, {doubled.total()} were too often"

    def answers_repeat(self) -> Iterator[str]:
        """1: the same id with the same content has the same answer again."""
        first: dict[tuple[str, str, str], tuple[bytes, Any]] = {}
        for record, outcome in self._outcomes:
            digest = record.headers.get("digest")
            if digest is None:
                if outcome["data"].get("rejection") not in ("InvalidCommand", "CommandIdReused"):
                    yield f"1: {record.place} has no digest, although it was decided"
                continue
            key = (outcome["accountid"], outcome["subject"], outcome["causationid"])
            before = first.setdefault(key, (digest, outcome["data"]))
            repeated = outcome.get("repeated", False)
            if before[1] is outcome["data"]:
                if repeated:
                    yield f"1: {record.place} calls itself a repeat, and nothing is before it"
            elif not repeated or before != (digest, outcome["data"]):
                yield f"1: {record.place} decides command {key[2]} on {key[1]} a second time"

    def sequences_count(self) -> Iterator[str]:
        """2 and 11: no gap, no repeat, and every event names the hash of the one before it."""
        heads: dict[str, tuple[int, str, str]] = defaultdict(lambda: (0, GENESIS, ""))
        for number, (record, event) in enumerate(self._events, 1):
            version, head, time = heads[event.subject]
            if event.partitionsequence != number:
                yield f"2: {record.place} has partitionsequence {event.partitionsequence}, not {number}"
            if event.sequence != version + 1:
                yield f"2: {record.place} has sequence {event.sequence} on {event.subject}, not {version + 1}"
            if event.previoushash != head:
                yield f"11: {record.place} does not name the hash of the event before it on {event.subject}"
            if event.time < time:
                yield f"2: {record.place} is earlier than the event before it on {event.subject}"
            heads[event.subject] = (event.sequence, sha256(record.value or b"").hexdigest(), event.time)

    def events_have_outcomes(self) -> Iterator[str]:
        """3: the ids that an outcome names are the events that its command has, all of them."""
        named: dict[tuple[str, str], list[str]] = {}
        for _, outcome in self._outcomes:
            if outcome.get("repeated"):
                continue
            ids = outcome["data"].get("events", [])
            named.setdefault((outcome["subject"], outcome["causationid"]), []).extend(ids)
        happened: dict[tuple[str, str], list[str]] = defaultdict(list)
        places: dict[str, Place] = {}
        for record, event in self._events:
            happened[event.subject, event.causationid].append(event.id)
            places[event.id] = record.place
        for key in named.keys() | happened.keys():
            lost = [one for one in named.get(key, ()) if one not in happened.get(key, ())]
            alone = [str(places[one]) for one in happened.get(key, ()) if one not in named.get(key, ())]
            if lost:
                yield f"3: the outcome of {key[1]} on {key[0]} names {len(lost)} events that are not there"
            if alone:
                yield f"3: {', '.join(alone)}: no outcome of {key[1]} on {key[0]} names it"

    def state_is_the_fold(self) -> Iterator[str]:
        """4: every state record, the checkpoint, and a secret for each signature."""
        records = self._log.compacted(topics.CHANNEL_STATE, self._partition)
        checkpoint = Checkpoint.model_validate_json(records.pop(CHECKPOINT_KEY, b"{}"))
        at = f"partition {self._partition}"
        if checkpoint.partitionsequence != len(self._events):
            yield f"4: {at}: the checkpoint counts {checkpoint.partitionsequence} events, the log {len(self._events)}"
        commands = self._log.of(topics.COMMANDS, self._partition)
        if commands and checkpoint.next_offset <= commands[-1].place.offset:
            yield f"4: {at}: the checkpoint is at {checkpoint.next_offset}, before {commands[-1].place}"
        states = self._fold()
        expected: dict[bytes, object] = {}
        for channel, state in states.items():
            expected[channel_key(channel)] = state.channel
            systems = state.channel.systems if state.channel else ()
            expected |= {system_key(channel, one): state.system(one) for one in systems}
        actual = {
            key: (BUSINESS_SYSTEM if b"/" in key else CHANNEL).decode(value)
            for key, value in records.items()
            if not key.startswith(_OURS)
        }
        for key in expected.keys() | actual.keys():
            if expected.get(key) != actual.get(key):
                yield f"4: {at}: the state record {key.decode()} is not the fold of its events"
        kept = {key for key in self._log.compacted(topics.SIGNATURES, self._partition) if not key.startswith(_OURS)}
        current, known = _signature_keys(states)
        for key in current - kept:
            yield f"4: {at}: the secret of {key.decode()} is gone"
        for key in kept - known:
            yield f"4: {at}: there is a secret of {key.decode()}, which no event drew or one deleted"

    def _fold(self) -> dict[str, ChannelState]:
        states: dict[str, ChannelState] = defaultdict(ChannelState)
        for record, event in self._events:
            mark = Mark(event.sequence, milliseconds_of(event.time), sha256(record.value or b"").hexdigest())
            body = cast("Event", event.body())
            try:
                states[event.subject] = evolve(states[event.subject], body, event.accountid, mark)
            except LookupError:
                continue  # a history that decisions cannot have made: the other checks name its record
        return states

    def expectations_held(self) -> Iterator[str]:
        """5: nothing on the path of what a command changed lies between what it expected and what it did."""
        by_channel: dict[str, list[EventEnvelope]] = defaultdict(list)
        for _, event in self._events:
            by_channel[event.subject].append(event)
        for record, event in self._events:
            command = self._incoming.envelopes.get((event.subject, event.causationid))
            if command is None or command.expectedversion is None:
                continue
            for other in by_channel[event.subject]:
                between = command.expectedversion < other.sequence < event.sequence
                if between and other.causationid != event.causationid and _on_one_path(other.resource, event.resource):
                    yield f"5: {record.place} expected version {command.expectedversion}, not {other.sequence}"

    def owners_took_turns(self) -> Iterator[str]:
        """7: who was followed by another never writes again."""
        for topic in (topics.EVENTS, topics.OUTCOMES, topics.CHANNEL_STATE):
            before: set[Writer] = set()
            now: Writer | None = None
            for offset, writer in self._log.writers.get((topic.name, self._partition), ()):
                if writer != now and writer in before:
                    yield f"7: {Place(topic.name, self._partition, offset)} is of an owner that was followed by another"
                before.add(writer)
                now = writer


def _answers_are_on_the_log(log: Log, answers: Iterable[Answer]) -> Iterator[str]:
    """1: what publishers were told is what the log says."""
    told: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for partition in range(log.partitions):
        for record in log.of(topics.OUTCOMES, partition):
            outcome = json.loads(record.value or b"{}")
            told[outcome["subject"], outcome["causationid"]].append(outcome["data"])
    for answer in answers:
        if answer.data not in told[answer.channel, answer.command_id]:
            yield f"1: a publisher was told of {answer.command_id} on {answer.channel} what the log does not say"


def _signature_keys(states: dict[str, ChannelState]) -> tuple[set[bytes], set[bytes]]:
    """The record keys of the signatures that must have a secret, and of all that may still have one."""
    current, known = set(), set()
    for channel, state in states.items():
        if state.channel is None:
            continue
        drafts = {SignatureAddress(channel, one.system, one.key_id).record_key() for one in state.channel.drafts}
        current |= drafts
        for name in state.channel.systems:
            system = state.system(name)
            for one in system.signatures if system else ():
                key = SignatureAddress(channel, name, one.key_id).record_key()
                known.add(key)
                if one.valid_until is None:
                    current.add(key)
    return current, known | current


def _on_one_path(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")

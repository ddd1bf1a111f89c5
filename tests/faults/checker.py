"""The one judge of every fault: reads the real topics, and says in a sentence what does not hold.

The invariants are numbered as in the design: 1 one first outcome for each command, and the same again for the same id;
2 sequences without a gap; 3 a command's events with its outcome or none; 4 channel-state is the fold of the events, at
every committed cut (`tests.faults.cuts`); 5 no accepted command passed over a change that it did not expect, or
expected a version yet to come; 7 no event of a fenced owner; 11 the hash chain.
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
from services.decider.memory import WINDOW
from services.domain.resources import resource_of_command
from tests.faults.asked import Asked, sort_out
from tests.faults.cuts import Cuts
from tests.faults.log import Log, LogRecord, Place, Writer


class Answer(NamedTuple):
    """What a publisher was told."""

    channel: str
    command_id: str
    data: dict[str, Any]


def violations(log: Log, answers: Iterable[Answer] = (), published: Iterable[bytes] = ()) -> list[str]:
    """Everything that does not hold; to be asked when every command that was published is decided.

    ``answers`` are what publishers were told, ``published`` the values that the broker told them to have.
    """
    found: list[Iterable[str]] = [_answers_are_on_the_log(log, answers), _published_is_there(log, published)]
    for partition in range(log.partitions):
        judged = _Partition(log, partition)
        found += [
            judged.commands_are_answered(),
            judged.letters_are_whole(),
            judged.forwards_are_whole(),
            judged.answers_fit(),
            judged.sequences_count(),
            judged.events_have_outcomes(),
            judged.versions_are_told(),
            judged.cuts().differences(),
            judged.expectations_held(),
            judged.owners_took_turns(),
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
        self._incoming = sort_out(log.of(topics.COMMANDS, partition), partition, log.partitions)
        self._told = [(outcome["subject"], outcome["causationid"]) for _, outcome in self._outcomes]
        self._pairs: list[tuple[Asked, LogRecord, dict[str, Any]]] = []
        """Each command with its outcome; none where they do not match, which is a violation by itself."""
        if self._told == [asked.key for asked in self._incoming.asked]:
            self._pairs = [
                (asked, record, outcome)
                for asked, (record, outcome) in zip(self._incoming.asked, self._outcomes, strict=True)
            ]
        self._by_channel: dict[str, list[EventEnvelope]] = defaultdict(list)
        for _, event in self._events:
            self._by_channel[event.subject].append(event)

    def commands_are_answered(self) -> Iterator[str]:
        """1: each command led to one outcome, in their order."""
        ids = [asked.key for asked in self._incoming.asked]
        expected, actual = Counter(ids), Counter(self._told)
        at = f"partition {self._partition}"
        for (channel, command), count in (expected - actual).items():
            yield f"1: {at}: command {command} on {channel} has {count} outcomes too few"
        for (channel, command), count in (actual - expected).items():
            places = [str(record.place) for record, one in self._outcomes if one["causationid"] == command]
            yield f"1: {at}: command {command} on {channel} has {count} outcomes too many, at {', '.join(places)}"
        if expected == actual and ids != self._told:
            yield f"1: {at}: commands were answered in another order than they came in"

    def letters_are_whole(self) -> Iterator[str]:
        """1: what cannot be read, and nothing else, is a dead letter, its key and bytes untouched."""
        letters: dict[int, list[LogRecord]] = defaultdict(list)
        for record in self._log.of(topics.DEAD_LETTERS, self._partition):
            letters[int(record.headers["offset"])].append(record)
        for offset in self._incoming.letters.keys() | letters.keys():
            place = Place(topics.COMMANDS.name, self._partition, offset)
            origin, found = self._incoming.letters.get(offset), letters[offset]
            if origin is not None and not found:
                yield f"1: {place} has no dead letter"
            elif origin is None or len(found) > 1:
                yield f"1: {place} has a dead letter too many"
            elif (found[0].key, found[0].value) != (origin.key, origin.value):
                yield f"1: {found[0].place} is not {place} as it came"

    def forwards_are_whole(self) -> Iterator[str]:
        """1: what came here and lives elsewhere was forwarded home once, under its channel's key."""
        here = str(self._partition).encode()
        forwarded: Counter[tuple[int, bytes]] = Counter()
        for home in range(self._log.partitions):
            for record in self._log.of(topics.COMMANDS, home):
                if record.headers.get("forwarded") != here:
                    continue
                forwarded[home, record.value or b""] += 1
                if partition_of((record.key or b"").decode(), self._log.partitions) != home:
                    yield f"1: {record.place} was forwarded under a key that does not live there"
        lost, doubled = self._incoming.forwards - forwarded, forwarded - self._incoming.forwards
        if lost or doubled:
            yield (
                f"1: partition {self._partition}: {lost.total()} commands were not forwarded home, "
                f"{doubled.total()} were too often"
            )

    def answers_fit(self) -> Iterator[str]:
        """1: each answer is of the kind that its command must have: invalid, decided, repeated, or a reused id."""
        first: dict[tuple[str, str, str], tuple[int, str, bytes | None, Any]] = {}
        for number, (asked, record, outcome) in enumerate(self._pairs):
            said, digest = outcome["data"], record.headers.get("digest")
            repeated, rejection = outcome.get("repeated", False), said.get("rejection")
            if (outcome["accountid"], record.key) != (asked.envelope.accountid, asked.envelope.subject.encode()):
                yield f"1: {record.place} is not in the name of the account and channel that asked"
            if outcome["type"] != ("CommandAccepted" if rejection is None else "CommandRejected"):
                yield f"1: {record.place} is called {outcome['type']}, and is none"
            if asked.command is None:
                if rejection != "InvalidCommand" or digest is not None or repeated:
                    yield f"1: {record.place} answers an invalid command as if it were none"
                continue
            known = first.get(asked.account_key)
            forgotten = known is not None and number - known[0] >= WINDOW and digest is not None and not repeated
            if known is None or forgotten:
                first[asked.account_key] = (number, asked.content, digest, said)
                yield from _first_fits(asked, record, outcome)
            elif asked.content == known[1]:
                if not repeated or (digest, said) != known[2:]:
                    yield f"1: {record.place} decides command {asked.key[1]} on {asked.key[0]} a second time"
            elif rejection != "CommandIdReused" or digest is not None or repeated:
                yield f"1: {record.place} takes another command under id {asked.key[1]} on {asked.key[0]}"

    def sequences_count(self) -> Iterator[str]:
        """2 and 11: no gap, no repeat, and every event names the hash of the one before it."""
        heads: dict[str, tuple[int, str, str]] = defaultdict(lambda: (0, GENESIS, ""))
        for number, (record, event) in enumerate(self._events, 1):
            version, head, time = heads[event.subject]
            home = partition_of(event.subject, self._log.partitions)
            if (record.key, self._partition) != (event.subject.encode(), home):
                yield f"2: {record.place} is not where {event.subject} lives, or not under its key"
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
        """3: the ids that an outcome names are the events that its command has, all of them, in their order."""
        named: dict[tuple[str, str], list[str]] = {}
        for _, outcome in self._outcomes:
            if not outcome.get("repeated"):
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
        in_order = [one for _, _, outcome in self._firsts() for one in outcome["data"].get("events", ())]
        if self._pairs and not (set(in_order) ^ places.keys()) and in_order != [event.id for _, event in self._events]:
            yield f"3: partition {self._partition}: events lie in another order than their outcomes name them in"

    def _firsts(self) -> Iterator[tuple[Asked, LogRecord, dict[str, Any]]]:
        return (pair for pair in self._pairs if not pair[2].get("repeated"))

    def versions_are_told(self) -> Iterator[str]:
        """3: a first outcome says the version after its own events; 0 where the channel is not the account's."""
        version: Counter[str] = Counter()
        for asked, record, outcome in self._firsts():
            channel = asked.envelope.subject
            version[channel] += len(outcome["data"].get("events", ()))
            events = self._by_channel[channel]
            account = events[0].accountid if version[channel] and events else None
            right = version[channel] if account == asked.envelope.accountid else 0
            if outcome["data"].get("rejection") != "InvalidCommand" and outcome["data"].get("version") != right:
                yield f"3: {record.place} says version {outcome['data'].get('version')}, not {right}"

    def cuts(self) -> Cuts:
        """4 and 11."""
        events = 0
        made = []
        for asked, _, outcome in self._pairs:
            events += 0 if outcome.get("repeated") else len(outcome["data"].get("events", ()))
            made.append((asked.offset, events))
        return Cuts(self._log, self._partition, self._events, made)

    def expectations_held(self) -> Iterator[str]:
        """5: nothing on the path of what an accepted command is about, or of what it changed, lies between what it
        expected and what it did."""
        version: Counter[str] = Counter()
        for asked, record, outcome in self._firsts():
            channel, before = asked.envelope.subject, version[asked.envelope.subject]
            ids = outcome["data"].get("events", ())
            version[channel] += len(ids)
            if asked.command is None or outcome["type"] != "CommandAccepted":
                continue
            expected = asked.envelope.expectedversion if isinstance(asked.envelope, CommandEnvelope) else None
            if expected is None:
                continue
            if expected > before:
                yield f"5: {record.place} was accepted at version {before}, but expected version {expected}"
            paths = {resource_of_command(asked.command)}
            paths |= {event.resource for event in self._by_channel[channel] if event.id in ids}
            for other in self._by_channel[channel][expected:before]:
                if any(_on_one_path(other.resource, path) for path in paths):
                    yield f"5: {record.place} expected version {expected}, not {other.sequence}"

    def owners_took_turns(self) -> Iterator[str]:
        """7: who was followed by another never writes again."""
        for topic in (topics.EVENTS, topics.OUTCOMES, topics.CHANNEL_STATE, topics.SIGNATURES, topics.DEAD_LETTERS):
            before: set[Writer] = set()
            now: Writer | None = None
            for offset, writer in self._log.writers.get((topic.name, self._partition), ()):
                if writer != now and writer in before:
                    yield f"7: {Place(topic.name, self._partition, offset)} is of an owner that was followed by another"
                before.add(writer)
                now = writer


def _first_fits(asked: Asked, record: LogRecord, outcome: dict[str, Any]) -> Iterator[str]:
    """1: what is decided for the first time is remembered, calls itself nothing else, and is dry if it was to be."""
    said = outcome["data"]
    if record.headers.get("digest") is None:
        yield f"1: {record.place} has no digest, although it was decided"
    if outcome.get("repeated") or said.get("rejection") in ("InvalidCommand", "CommandIdReused"):
        yield f"1: {record.place} calls itself a repeat, or its command invalid, and it is neither"
    dry = isinstance(asked.envelope, CommandEnvelope) and bool(asked.envelope.dryrun)
    if "rejection" not in said and said.keys() & {"events", "would_append"} != {"would_append" if dry else "events"}:
        yield f"1: {record.place} answers a dry run as a real one, or a real one as dry"


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


def _published_is_there(log: Log, published: Iterable[bytes]) -> Iterator[str]:
    """1: what the broker said that it has, it has."""
    there = {record.value for number in range(log.partitions) for record in log.of(topics.COMMANDS, number)}
    missing = sum(value not in there for value in published)
    if missing:
        yield f"1: {missing} commands are not on the log, although the broker said that it had them"


def _on_one_path(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")

"""Decides a batch of commands on a fork of the partition's state, and gathers the records of its one transaction."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from os import urandom
from time import monotonic
from typing import Any, Protocol

from nacl.exceptions import CryptoError
from pydantic import ValidationError
from pydantic_core import to_json

from contracts import topics
from contracts.commands import COMMANDS, Command
from contracts.envelope import (
    CONTENT_TYPE,
    GENESIS,
    CommandEnvelope,
    Invalid,
    ReadableEnvelope,
    Unreadable,
    problem_of,
    read_command,
)
from contracts.ids import uuid7
from contracts.message import rfc3339
from contracts.partitioner import partition_of
from contracts.rejections import CommandIdReused, DecisionFailed, InvalidCommand, Rejection, SealKeyRefused
from services.decider.encoding import (
    EventPlace,
    accepted_json,
    data_json,
    digest_of,
    event_json,
    outcome_headers,
    outcome_json,
    rejection_json,
    shared_attributes,
)
from services.decider.memory import RememberedAnswer, memory_key
from services.decider.partition_state import CHECKPOINT_KEY, Fork
from services.decider.sealing import sealed
from services.domain.address import Allowances
from services.domain.decide import decide
from services.domain.decision import Context, Decision, Mark, SealedSecret
from services.domain.evolve import evolve
from services.domain.resources import resource_of_event
from services.domain.signing import SECRET_BYTES, shown
from services.infrastructure.transactions import OutgoingRecord
from services.infrastructure.vault import KeyRing, SignatureAddress

log = logging.getLogger(__name__)

FORWARDED = "forwarded"
"""The header that forbids a second hop; its value is the partition that the command came in on."""

FAILURES_IN_A_ROW_LIMIT = 20
LONGEST_DECIDING_S = 0.25
"""A batch ends after so long. Judging the most laborious schema takes as long by itself, and meanwhile no partition of
the process goes on."""

_DRAWN_AT_ONCE = 2048
_EVENT_HEADERS = [CONTENT_TYPE]

LONGEST_COMMAND = 512 * 1024
"""Bytes of a command's JSON, which takes a quarter of that at most, every character escaped. To find all that is wrong
with a long one takes long, and meanwhile no partition of the process goes on."""

_LARGEST_FORWARDED = topics.LARGEST_RECORD_BYTES - 1024
_LARGEST_DEAD_LETTER = topics.LARGEST_RECORD_BYTES
"""Bytes of key, value and headers, and of key and value, that still fit with what is put around them. The broker
unpacks what is published, and so takes nothing larger; a topic that was made otherwise may hold more."""

_LONGEST_LENGTHS = 8
"""Bytes in front of a header's name and value, which say how long they are."""


class IncomingCommand(Protocol):
    """What is read of a record of `switchboard.commands`."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class TooManyFailures(Exception):
    """So many decisions in a row raised that something is wrong with us, not with the commands."""


@dataclass(frozen=True, slots=True)
class Deciding:
    """What deciding needs besides the state."""

    partition: int
    partitions: int
    keyring: KeyRing
    allowances: Allowances


@dataclass(slots=True)
class Batch:
    """A batch under decision: ``records`` is what its transaction will hold besides the changed state."""

    deciding: Deciding
    fork: Fork
    now: int
    records: list[OutgoingRecord] = field(default_factory=list)
    failures_in_a_row: int = 0
    time: str = ""
    _drawn: bytes = b""
    _used: int = 0

    def __post_init__(self) -> None:
        self.time = rfc3339(self.now)

    def take_in_time(self, incoming: Iterable[IncomingCommand], clock: Callable[[], float] = monotonic) -> None:
        """Decides one after the other until `LONGEST_DECIDING_S` is over; `Fork.next_offset` says how far it came."""
        end = clock() + LONGEST_DECIDING_S
        for one in incoming:
            self.take(one)
            if clock() > end:
                return

    def take(self, incoming: IncomingCommand) -> None:
        """Decides one command; whatever it is, it leads to exactly one outcome, dead letter or forward."""
        try:
            command = read_command(incoming.value, LONGEST_COMMAND)
        except Unreadable as finding:
            self._dead_letter(incoming, str(finding))
        except Invalid as finding:
            if not self._forwarded_home(finding.envelope.subject, incoming):
                self._reject_invalid(finding.envelope, finding.problem)
        else:
            if not self._forwarded_home(command.subject, incoming):
                self._answer(command, incoming)
        self.fork.next_offset = incoming.offset + 1

    def transaction(self, outcomes_from: int) -> list[OutgoingRecord]:
        """Every record of the batch's transaction: answers, events, state, signatures, and the checkpoint."""
        at = self.deciding.partition
        changed = (
            OutgoingRecord(topics.CHANNEL_STATE.name, at, key, value)
            for key, value in self.fork.changed_records().items()
        )
        secrets = (
            OutgoingRecord(topics.SIGNATURES.name, at, key, value) for key, value in self.fork.signatures.items()
        )
        checkpoint = to_json(self.fork.checkpoint_at(outcomes_from))
        return [
            *self.records,
            *changed,
            *secrets,
            OutgoingRecord(topics.CHANNEL_STATE.name, at, CHECKPOINT_KEY, checkpoint),
        ]

    def _answer(self, envelope: CommandEnvelope, incoming: IncomingCommand) -> None:
        kind = COMMANDS.get(envelope.type)
        if kind is None:
            self._reject_invalid(envelope, f"'type' is wrong: there is no command {envelope.type!r}.")
            return
        try:
            command: Any = kind.__pydantic_validator__.validate_python(envelope.data, by_name=False)
        except ValidationError as error:
            self._reject_invalid(envelope, problem_of(error, "data"))
            return
        digest = digest_of(envelope)
        key = memory_key(envelope.accountid, envelope.subject, envelope.id)
        shared = shared_attributes(envelope)
        remembered = self.fork.answer(key)
        if remembered is None:
            data = self._decided(envelope, command, shared, incoming)
            self.fork.answers[key] = RememberedAnswer(digest, data)
            self._outcome(envelope, shared, data, digest)
        elif remembered.digest == digest:
            self._outcome(envelope, shared, remembered.data, digest, repeated=True)
        else:
            data = rejection_json(CommandIdReused(command=envelope.id), self._version(envelope))
            self._outcome(envelope, shared, data, None)

    def _decided(self, envelope: CommandEnvelope, command: Command, shared: bytes, incoming: IncomingCommand) -> bytes:
        """The outcome's data. A decision that raises is our fault: rejected, kept, and nothing of it remains."""
        try:
            data = self._decide(envelope, command, shared)
        except Exception as error:  # whatever it is, the rest of the batch is unharmed
            self.failures_in_a_row += 1
            reason = f"the decision raised {type(error).__name__}"
            log.error(
                "%s on %s, partition %d offset %d", reason, envelope.type, self.deciding.partition, incoming.offset
            )
            log.debug("the decision that raised", exc_info=True)
            if self.failures_in_a_row >= FAILURES_IN_A_ROW_LIMIT:
                raise TooManyFailures(
                    f"Partition {self.deciding.partition} stops: {self.failures_in_a_row} decisions in a row raised, "
                    f"the last one {type(error).__name__} on {envelope.type} at offset {incoming.offset}."
                ) from error
            self._dead_letter(incoming, reason)
            return rejection_json(DecisionFailed(), self._version(envelope))
        self.failures_in_a_row = 0
        return data

    def _decide(self, envelope: CommandEnvelope, command: Command, shared: bytes) -> bytes:
        """The outcome's data. All that can raise comes before the first change of the fork."""
        channel = envelope.subject
        state = self.fork.channel(channel)
        now = self.now if state.channel is None else max(self.now, state.channel.time)
        context = Context(channel, envelope.accountid, now, self._random(SECRET_BYTES), self.deciding.allowances)
        decision = decide(state, command, context, envelope.expectedversion)
        if not isinstance(decision, Decision):
            return rejection_json(decision, self._version(envelope))
        seal = None if decision.sealed is None else self._sealed(channel, decision, decision.sealed)
        if isinstance(seal, Rejection):
            return rejection_json(seal, self._version(envelope))
        if envelope.dryrun:
            return self._would_append(envelope, decision)
        secrets = self._secrets(channel, decision)
        version, head = (0, GENESIS) if state.channel is None else (state.channel.version, state.channel.head)
        ids: list[str] = []
        values: list[bytes] = []
        time = self.time if now == self.now else rfc3339(now)
        for event in decision.events:
            ids.append(uuid7(now, self._random(10)))
            version += 1
            place = EventPlace(version, self.fork.partitionsequence + len(ids), head, resource_of_event(event))
            value = event_json(ids[-1], type(event).__name__, time, shared, place, data_json(event))
            values.append(value)
            head = sha256(value).hexdigest()
            state = evolve(state, event, envelope.accountid, Mark(version, now, head))
        data = accepted_json(version, ids, seal)
        if values:
            self.fork.channels[channel] = state
            self.fork.partitionsequence += len(values)
            self.fork.signatures.update(secrets)
            key = channel.encode()
            for value in values:
                self._append(topics.EVENTS.name, key, value, _EVENT_HEADERS)
        return data

    def _would_append(self, envelope: CommandEnvelope, decision: Decision) -> bytes:
        would = b",".join(
            b'{"type":"%b","data":%b}' % (type(event).__name__.encode(), data_json(event)) for event in decision.events
        )
        return b'{"version":%d,"would_append":[%b]}' % (self._version(envelope), would)

    def _secrets(self, channel: str, decision: Decision) -> dict[bytes, bytes | None]:
        """What the decision writes to the signatures topic; None is a tombstone."""
        secrets: dict[bytes, bytes | None] = {}
        for gone in decision.deleted:
            secrets[SignatureAddress(channel, gone.system, gone.key_id).record_key()] = None
        if decision.kept is not None:
            address = SignatureAddress(channel, decision.kept.system, decision.kept.key_id)
            secrets[address.record_key()] = self.deciding.keyring.encrypt(decision.kept.secret, address)
        return secrets

    def _sealed(self, channel: str, decision: Decision, wanted: SealedSecret) -> str | Rejection:
        secret = self._secret(channel, decision, wanted)
        try:
            return sealed(shown(secret), wanted.seal_to)
        except CryptoError:
            return SealKeyRefused()

    def _secret(self, channel: str, decision: Decision, wanted: SealedSecret) -> bytes:
        kept = decision.kept
        if kept is not None and kept.key_id == wanted.key_id:
            return kept.secret
        address = SignatureAddress(channel, wanted.system, wanted.key_id)
        value = self.fork.signature(address.record_key())
        if value is None:
            raise LookupError(f"the signatures topic has no {wanted.key_id} for {channel}/{wanted.system}")
        return self.deciding.keyring.decrypt(value, address)

    def _version(self, envelope: CommandEnvelope) -> int:
        """The channel's version now; 0 where it is unknown, another account's, or its record cannot be read."""
        try:
            channel = self.fork.channel(envelope.subject).channel
        except (ValueError, LookupError):  # each of its commands fails by itself, so the partition goes on
            return 0
        return 0 if channel is None or channel.account != envelope.accountid else channel.version

    def _reject_invalid(self, envelope: CommandEnvelope | ReadableEnvelope, problem: str) -> None:
        data = rejection_json(InvalidCommand(problem=problem), None)
        self._outcome(envelope, shared_attributes(envelope), data, None)

    def _outcome(
        self,
        envelope: CommandEnvelope | ReadableEnvelope,
        shared: bytes,
        data: bytes,
        digest: bytes | None,
        *,
        repeated: bool = False,
    ) -> None:
        value = outcome_json(uuid7(self.now, self._random(10)), self.time, shared, data, repeated=repeated)
        headers = outcome_headers(envelope.id, envelope.accountid, digest)
        self._append(topics.OUTCOMES.name, envelope.subject.encode(), value, headers)

    def _dead_letter(self, incoming: IncomingCommand, reason: str) -> None:
        headers = [
            ("reason", reason.encode()),
            ("topic", topics.COMMANDS.name.encode()),
            ("partition", str(self.deciding.partition).encode()),
            ("offset", str(incoming.offset).encode()),
        ]
        value = incoming.value
        if len(incoming.key or b"") + len(value or b"") > _LARGEST_DEAD_LETTER:
            headers.append(("omitted", str(len(value or b"")).encode()))
            value = None
        self._append(topics.DEAD_LETTERS.name, incoming.key, value, headers)

    def _forwarded_home(self, subject: str, incoming: IncomingCommand) -> bool:
        """Sends a command that came on another partition than its channel's to its home; never twice."""
        if self.fork.knows(subject):
            return False
        here = self.deciding.partition
        home = partition_of(subject, self.deciding.partitions)
        if home == here:
            return False
        if any(name == FORWARDED for name, _ in incoming.headers):
            self._dead_letter(incoming, f"it was forwarded once already, and partition {here} is not its home")
            return True
        headers = [*incoming.headers, (FORWARDED, str(here).encode())]
        forwarded = OutgoingRecord(topics.COMMANDS.name, home, subject.encode(), incoming.value, headers)
        if _size(forwarded) > _LARGEST_FORWARDED:
            self._dead_letter(incoming, f"partition {here} is not its home, and it is too large to be forwarded")
        else:
            self.records.append(forwarded)
        return True

    def _random(self, count: int) -> bytes:
        """So many fresh random bytes. They are drawn many at a time: a system call for each would cost more than all
        else that is done with them."""
        begin = self._used
        if begin + count > len(self._drawn):
            begin, self._drawn = 0, urandom(_DRAWN_AT_ONCE)
        self._used = begin + count
        return self._drawn[begin : self._used]

    def _append(self, topic: str, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]) -> None:
        self.records.append(OutgoingRecord(topic, self.deciding.partition, key, value, headers))


def _size(record: OutgoingRecord) -> int:
    """Bytes of the record, at most: of many small headers, more go into saying how long they are than into all else."""
    headers = sum(len(name.encode()) + len(value or b"") + _LONGEST_LENGTHS for name, value in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers

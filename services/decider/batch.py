"""Decides a batch of commands on a fork of the partition's state, and collects the records of its one transaction.

Each command goes through the same stages: read, route (`routing`), validate, look up in the idempotency window, decide
(`command_decision`), append the outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import structlog
from pydantic import ValidationError
from pydantic_core import to_json

from contracts import topics
from contracts.envelope import (
    CommandEnvelope,
    EnvelopeIdentity,
    InvalidEnvelope,
    UndecodableEnvelope,
    read_command,
    validation_message,
)
from contracts.ids import uuid7
from contracts.message import rfc3339
from contracts.message_types import COMMANDS, Command
from contracts.pydantic_internals import python_validator
from contracts.rejections import CommandIdReused, DecisionFailed, InvalidCommand, TooManyCommands
from services.decider import metrics
from services.decider.command_decision import CheckNeeded, CommandDecider
from services.decider.config import DeciderConfig
from services.decider.encoding import command_digest, outcome_headers, outcome_json, rejection_json, shared_attributes
from services.decider.idempotency_window import RememberedOutcome, idempotency_key
from services.decider.partition_state import Fork, OutcomeNotRead
from services.decider.random_bytes import RandomBytes
from services.decider.routing import IncomingCommand, NotForwarded, forward, is_left_to_another
from services.domain.state_topic import CHECKPOINT_KEY
from services.infrastructure import tracing
from services.infrastructure.dead_letter import dead_letter
from services.infrastructure.transactions import OutgoingRecord

log = structlog.stdlib.get_logger(__name__)

_VALIDATE = {name: python_validator(command) for name, command in COMMANDS.items()}

CONSECUTIVE_FAILURES_LIMIT = 20
_CHANNEL_UNKNOWN = b'{"rejection":"ChannelUnknown"'
"""Such an outcome is not remembered: a stranger could otherwise fill the window with commands to nothing."""

BATCH_TIME_LIMIT_S = 0.25
"""A batch ends after this time; it holds up the other partitions of the process, except while a schema is checked."""

COMMAND_BYTES_LIMIT = 512 * 1024
"""Of a command's JSON. A valid one needs a quarter of that at most, with every character escaped. Finding everything
that is wrong with a long one takes long, and meanwhile no other partition of the process makes progress."""


class TooManyFailures(Exception):
    """So many consecutive decisions raised that the fault is in the decider, not in the commands."""


@dataclass(slots=True)
class Batch:
    """A batch under decision. ``records`` is what its transaction contains besides the changed state; ``now`` is Unix
    milliseconds."""

    config: DeciderConfig
    fork: Fork
    now: int
    records: list[OutgoingRecord] = field(default_factory=list)
    consecutive_failures: int = 0
    waits_for_outcome: bool = False
    """Whether it ended before a repeated command whose first outcome is not in memory."""
    needed_check: CheckNeeded | None = None
    """The check before which it paused; after it, `process_in_time` is to be called with the commands that are left."""
    processed: int = 0
    dead_letters: int = 0
    over_time: bool = False
    spans: list[Any] = field(default_factory=list)
    """Of the commands that are traced; they end with the batch."""
    _end: float | None = None
    _time: str = ""
    _random: RandomBytes = field(default_factory=RandomBytes)
    _decider: CommandDecider = field(init=False)

    def __post_init__(self) -> None:
        self._time = rfc3339(self.now)
        self._decider = CommandDecider(self.config, self.fork, self.now, self._random, self.records)

    def process_in_time(self, commands: Iterable[IncomingCommand], clock: Callable[[], float] = monotonic) -> None:
        """Processes commands until `BATCH_TIME_LIMIT_S` is over, counted from the first call; `Fork.next_offset` is the
        first one left."""
        self.needed_check = None
        if self._end is None:
            self._end = clock() + BATCH_TIME_LIMIT_S
        for incoming in commands:
            try:
                self.process(incoming)
            except OutcomeNotRead:
                self.waits_for_outcome = True
                return
            except CheckNeeded as check:
                self.needed_check = check
                return
            self.processed += 1
            if clock() > self._end:
                self.over_time = True
                return

    def process(self, incoming: IncomingCommand) -> None:
        """Processes one command; whatever it contains, it leads to exactly one outcome, dead letter or forward, unless
        it is left to the owner of another partition.

        Raises `OutcomeNotRead` and `CheckNeeded` before it changes anything.
        """
        try:
            command = read_command(incoming.value, COMMAND_BYTES_LIMIT)
        except UndecodableEnvelope as finding:
            if self.fork.reading is None:
                self._append_dead_letter(incoming, str(finding))
        except InvalidEnvelope as finding:
            if not self._rerouted(finding.envelope.subject, incoming):
                self._reject_invalid(finding.envelope, finding.problem)
        else:
            if not self._rerouted(command.subject, incoming):
                self._answer(command, incoming)
        self.fork.next_offset = incoming.offset + 1

    def transaction(self, outcomes_from: int) -> list[OutgoingRecord]:
        """Every record of the batch's transaction: outcomes, events, state, signatures, and the checkpoint."""
        partition = self.config.partition
        changed = (
            OutgoingRecord(topics.CHANNEL_STATE.name, partition, key, value)
            for key, value in self.fork.changed_records().items()
        )
        secrets = (
            OutgoingRecord(topics.SIGNATURES.name, partition, key, value) for key, value in self.fork.signatures.items()
        )
        checkpoint = to_json(self.fork.checkpoint_at(outcomes_from))
        return [
            *self.records,
            *changed,
            *secrets,
            OutgoingRecord(topics.CHANNEL_STATE.name, partition, CHECKPOINT_KEY, checkpoint),
        ]

    def _rerouted(self, channel: str, incoming: IncomingCommand) -> bool:
        """Whether the command is not to be decided here; it is then forwarded, a dead letter, or left to another."""
        if self.fork.has_channel(channel):
            return False
        if is_left_to_another(self.config, self.fork.reading, channel, incoming.offset):
            return True
        try:
            forwarded = forward(self.config, channel, incoming)
        except NotForwarded as reason:
            self._append_dead_letter(incoming, str(reason))
            return True
        if forwarded is None:
            return False
        self.records.append(forwarded)
        return True

    def _answer(self, envelope: CommandEnvelope, incoming: IncomingCommand) -> None:
        validate = _VALIDATE.get(envelope.type)
        if validate is None:
            self._reject_invalid(envelope, f"'type' is wrong: there is no command {envelope.type!r}.")
            return
        try:
            command: Any = validate(envelope.data, by_name=False)
        except ValidationError as error:
            self._reject_invalid(envelope, validation_message(error, "data"))
            return
        digest = command_digest(envelope)
        key = idempotency_key(envelope.accountid, envelope.subject, envelope.id)
        span = tracing.start(f"decide {envelope.type}", "CONSUMER", envelope.traceparent)
        shared = shared_attributes(envelope, tracing.traceparent_of(span, None))
        remembered = self.fork.outcome(key)
        if remembered is None:
            self._answer_first(envelope, command, shared, incoming, digest, key)
        elif remembered.digest == digest:
            self._append_outcome(envelope, shared, remembered.data, digest, repeated=True)
        else:
            data = rejection_json(CommandIdReused(command=envelope.id), self._decider.version(envelope))
            self._append_outcome(envelope, shared, data, None)
        if span is not None:
            span.set_attribute("messaging.kafka.offset", incoming.offset)
            self.spans.append(span)

    def _answer_first(
        self,
        envelope: CommandEnvelope,
        command: Command,
        shared: bytes,
        incoming: IncomingCommand,
        digest: bytes,
        key: str,
    ) -> None:
        limit = self.config.commands_per_account
        if self.fork.commands_of(envelope.accountid) >= limit:
            refusal = TooManyCommands(account=envelope.accountid, limit=limit)
            self._append_outcome(envelope, shared, rejection_json(refusal, self._decider.version(envelope)), None)
            return
        data = self._decide(envelope, command, shared, incoming)
        if data.startswith(_CHANNEL_UNKNOWN):
            self._append_outcome(envelope, shared, data, None)
            return
        self.fork.remember(key, envelope.accountid, RememberedOutcome(digest, data))
        self._append_outcome(envelope, shared, data, digest)

    def _decide(self, envelope: CommandEnvelope, command: Command, shared: bytes, incoming: IncomingCommand) -> bytes:
        """The outcome's data. A decision that raises is the decider's fault: the command is rejected, and published as
        a dead letter; the fork is unchanged."""
        try:
            data = self._decider.decide(envelope, command, shared)
        except CheckNeeded:
            raise
        except Exception as error:  # the rest of the batch is unharmed
            log.debug("decision raised", command=envelope.id, exc_info=True)
            self._count_failure(envelope, incoming, error)
            return rejection_json(DecisionFailed(), self._decider.version(envelope))
        self.consecutive_failures = 0
        return data

    def _count_failure(self, envelope: CommandEnvelope, incoming: IncomingCommand, error: Exception) -> None:
        self.consecutive_failures += 1
        metrics.FAILED.inc()
        partition, reason = self.config.partition, f"the decision raised {type(error).__name__}"
        log.error(
            "decision failed",
            reason=reason,
            type=envelope.type,
            command=envelope.id,
            channel=envelope.subject,
            partition=partition,
            offset=incoming.offset,
        )
        if self.consecutive_failures >= CONSECUTIVE_FAILURES_LIMIT:
            raise TooManyFailures(
                f"Partition {partition} stops: {self.consecutive_failures} decisions in a row raised, "
                f"the last one {type(error).__name__} on {envelope.type} at offset {incoming.offset}."
            ) from error
        self._append_dead_letter(incoming, reason)

    def _reject_invalid(self, envelope: CommandEnvelope | EnvelopeIdentity, problem: str) -> None:
        data = rejection_json(InvalidCommand(problem=problem), None)
        self._append_outcome(envelope, shared_attributes(envelope), data, None)

    def _append_outcome(
        self,
        envelope: CommandEnvelope | EnvelopeIdentity,
        shared: bytes,
        data: bytes,
        digest: bytes | None,
        *,
        repeated: bool = False,
    ) -> None:
        """``digest`` is None on what is not remembered."""
        value = outcome_json(uuid7(self.now, self._random.next(10)), self._time, shared, data, repeated=repeated)
        headers = outcome_headers(envelope.id, envelope.accountid, digest)
        key = envelope.subject.encode()
        self.records.append(OutgoingRecord(topics.OUTCOMES.name, self.config.partition, key, value, headers))
        self.fork.outcome_count += 1

    def _append_dead_letter(self, incoming: IncomingCommand, reason: str) -> None:
        self.dead_letters += 1
        partition = self.config.partition
        source = partition if self.fork.reading is None else self.fork.reading
        letter = dead_letter(incoming, topics.COMMANDS.name, source, reason)
        headers = [(name, text.encode()) for name, text in letter.headers.items()]
        self.records.append(OutgoingRecord(topics.DEAD_LETTERS.name, partition, letter.key, letter.value, headers))

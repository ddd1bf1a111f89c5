"""What each record of `switchboard.commands` must lead to, from its bytes alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from pydantic import ValidationError

from contracts.envelope import CommandEnvelope, EnvelopeIdentity, InvalidEnvelope, UndecodableEnvelope, read_command
from contracts.message_types import COMMANDS, Command
from contracts.partitioner import partition_of
from services.decider.routing import FORWARDED_HEADER
from tests.faults.decider.log_reader import LogRecord


class ReceivedCommand(NamedTuple):
    """A command that must be answered on its partition.

    ``command`` is None where its envelope or data breaks the contract.
    """

    offset: int
    envelope: CommandEnvelope | EnvelopeIdentity
    command: Command | None

    @property
    def key(self) -> tuple[str, str]:
        """(channel, command id)."""
        return self.envelope.subject, self.envelope.id

    @property
    def account_key(self) -> tuple[str, str, str]:
        """The idempotency key."""
        return self.envelope.accountid, *self.key

    @property
    def content(self) -> str:
        """Type, data and dry run in comparable form: commands with equal content are the same command."""
        assert isinstance(self.envelope, CommandEnvelope)
        content = [self.envelope.type, self.envelope.data, bool(self.envelope.dryrun)]
        return json.dumps(content, sort_keys=True)


@dataclass(slots=True)
class ExpectedResults:
    """The results that the records of one partition must have."""

    received: list[ReceivedCommand] = field(default_factory=list)
    dead_letters: dict[int, LogRecord] = field(default_factory=dict)
    """Records that belong on the dead-letter topic, by offset."""
    forwards: Counter[tuple[int, bytes]] = field(default_factory=Counter)
    """(partition of the channel, value)."""


def expected_results(records: Sequence[LogRecord], partition: int, partitions: int) -> ExpectedResults:
    """Classifies the records of one partition of `switchboard.commands`."""
    found = ExpectedResults()
    for record in records:
        envelope: CommandEnvelope | EnvelopeIdentity
        command: Command | None = None
        try:
            envelope = read_command(record.value)
        except UndecodableEnvelope:
            found.dead_letters[record.position.offset] = record
            continue
        except InvalidEnvelope as finding:
            envelope = finding.envelope
        else:
            command = _command(envelope)
        own_partition = partition_of(envelope.subject, partitions)
        if own_partition == partition:
            found.received.append(ReceivedCommand(record.position.offset, envelope, command))
        elif FORWARDED_HEADER in record.headers:
            found.dead_letters[record.position.offset] = record
        else:
            found.forwards[own_partition, record.value or b""] += 1
    return found


def _command(envelope: CommandEnvelope) -> Command | None:
    kind: Any = COMMANDS.get(envelope.type)
    try:
        return None if kind is None else cast("Command", kind.model_validate(envelope.data))
    except ValidationError:
        return None

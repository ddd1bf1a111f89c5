"""What each record of `switchboard.commands` must lead to, judged from its bytes alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from pydantic import ValidationError

from contracts.commands import COMMANDS, Command
from contracts.envelope import CommandEnvelope, Invalid, ReadableEnvelope, Unreadable, read_command
from contracts.partitioner import partition_of
from services.decider.batch import FORWARDED
from tests.faults.log import LogRecord


class Asked(NamedTuple):
    """A command that must be answered here. ``command`` is None where its envelope or data breaks the contract."""

    offset: int
    envelope: CommandEnvelope | ReadableEnvelope
    command: Command | None

    @property
    def key(self) -> tuple[str, str]:
        """(channel, command id)."""
        return self.envelope.subject, self.envelope.id

    @property
    def account_key(self) -> tuple[str, str, str]:
        """What an answer is remembered by."""
        return self.envelope.accountid, *self.key

    @property
    def content(self) -> str:
        """Type, data and whether it is a dry run, comparable: the same content is the same command."""
        assert isinstance(self.envelope, CommandEnvelope)
        content = [self.envelope.type, self.envelope.data, bool(self.envelope.dryrun)]
        return json.dumps(content, sort_keys=True)


@dataclass(slots=True)
class Incoming:
    """What the records of one partition must have led to."""

    asked: list[Asked] = field(default_factory=list)
    letters: dict[int, LogRecord] = field(default_factory=dict)
    """By offset, what belongs on the dead-letter topic."""
    forwards: Counter[tuple[int, bytes]] = field(default_factory=Counter)
    """(home, value)."""


def sort_out(records: Sequence[LogRecord], partition: int, partitions: int) -> Incoming:
    """Sorts the records of a partition of `switchboard.commands`."""
    found = Incoming()
    for record in records:
        envelope: CommandEnvelope | ReadableEnvelope
        command: Command | None = None
        try:
            envelope = read_command(record.value)
        except Unreadable:
            found.letters[record.place.offset] = record
            continue
        except Invalid as finding:
            envelope = finding.envelope
        else:
            command = _command(envelope)
        home = partition_of(envelope.subject, partitions)
        if home == partition:
            found.asked.append(Asked(record.place.offset, envelope, command))
        elif FORWARDED in record.headers:
            found.letters[record.place.offset] = record
        else:
            found.forwards[home, record.value or b""] += 1
    return found


def _command(envelope: CommandEnvelope) -> Command | None:
    kind: Any = COMMANDS.get(envelope.type)
    try:
        return None if kind is None else cast("Command", kind.model_validate(envelope.data))
    except ValidationError:
        return None

"""Scheduled changes: at the instant of an approved change, its partition's owner sends itself `ApplyChange`.

What waits is part of the state, so a restart forgets nothing. The command's id is made from the change, so the command
of an earlier owner is not decided twice; and once it is decided, the change is closed and waits no more.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from contracts import topics
from contracts.envelope import CONTENT_TYPE, CommandEnvelope
from contracts.ids import uuid8_of
from contracts.proposed_change import ApplyChange
from services.decider.partition_state import PartitionState
from services.domain.state_codec import CHANNEL
from services.infrastructure.transactions import OutgoingRecord

log = structlog.stdlib.get_logger(__name__)

RETRY_MS = 60_000
"""A change that still waits so long after it was sent was refused, for a clock that is behind or the account's limit of
commands; it is sent again under another id."""

_APPROVED = b'"approved_by":'
"""In the record of a channel where an approved change waits."""


@dataclass(slots=True)
class _Waiting:
    """``at`` and ``next_attempt`` are Unix milliseconds."""

    account: str
    at: int
    next_attempt: int


def command_id_of(channel: str, change: str, attempt: int) -> str:
    """Unique per change and attempt: two owners that send the same attempt send one command."""
    return uuid8_of(ApplyChange.__name__, channel, change, str(attempt))


class ScheduledChanges:
    """The approved changes of one partition that wait for their instant."""

    def __init__(self, state: PartitionState, partition: int) -> None:
        self._partition = partition
        self._waiting: dict[str, dict[str, _Waiting]] = {}
        """Channel -> change."""
        for key, value in state.records.items():
            self.follow(key, value)

    def follow(self, key: bytes, value: bytes) -> None:
        """Follows a committed record of `switchboard.channel-state`."""
        if b"/" in key or key.startswith(b"~"):
            return
        name = key.decode()
        earlier = self._waiting.pop(name, {})
        if _APPROVED not in value:  # a match may also be in somebody's text
            return
        try:
            channel = CHANNEL.decode(value)
        except ValueError:  # one bad record must not stop the partition; the commands of its channel fail
            log.error("state record cannot be read; `switchboard state rebuild` corrects it", record=name)
            return
        waiting = {
            change: earlier.get(change) or _Waiting(channel.account, proposed.at, proposed.at)
            for change, proposed in channel.open_changes.items()
            if proposed.approved_by is not None and proposed.at is not None
        }
        if waiting:
            self._waiting[name] = waiting

    def due(self, now: int) -> list[OutgoingRecord]:
        """The commands to append now. ``now`` is Unix milliseconds."""
        commands = []
        for channel, changes in self._waiting.items():
            for change, waiting in changes.items():
                if waiting.next_attempt <= now:
                    attempt = (now - waiting.at) // RETRY_MS
                    waiting.next_attempt = waiting.at + (attempt + 1) * RETRY_MS
                    commands.append(self._command(channel, change, waiting.account, attempt))
        return commands

    def _command(self, channel: str, change: str, account: str, attempt: int) -> OutgoingRecord:
        command = CommandEnvelope(
            specversion="1.0",
            id=command_id_of(channel, change, attempt),
            type=ApplyChange.__name__,
            source="switchboard",
            subject=channel,
            accountid=account,
            data={"change": change},
        )
        value = command.model_dump_json(exclude_unset=True).encode()
        return OutgoingRecord(topics.COMMANDS.name, self._partition, channel.encode(), value, [CONTENT_TYPE])

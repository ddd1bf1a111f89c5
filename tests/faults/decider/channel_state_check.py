"""Invariant 4: after every transaction, channel-state is the fold of the events, and its checkpoint counts them."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import cast

from contracts import topics
from contracts.envelope import EventEnvelope
from contracts.message import unix_milliseconds
from contracts.message_types import Event
from services.domain.decision import EventMetadata
from services.domain.evolve import evolve
from services.domain.state import ChannelState, ImpossibleHistory
from services.domain.state_codec import BUSINESS_SYSTEM, CHANNEL
from services.domain.state_topic import CHECKPOINT_KEY, Checkpoint, channel_key, system_key
from services.infrastructure.vault import SignatureAddress
from tests.faults.decider.log_reader import Log, LogRecord

_RESERVED_PREFIX = b"~"
"""Keys of records that belong to no channel, such as the checkpoint's, start with it."""


@dataclass(slots=True)
class ChannelStateCheck:
    """Checks a partition's channel-state after every transaction. Each transaction ends in a checkpoint.

    ``event_counts`` are (offset of a command, number of events up to and including that command), in order. The topic
    must not be compacted yet.
    """

    log: Log
    partition: int
    events: Sequence[tuple[LogRecord, EventEnvelope]]
    event_counts: Sequence[tuple[int, int]]
    _states: dict[str, ChannelState] = field(default_factory=lambda: defaultdict(ChannelState))
    _table: dict[bytes, bytes] = field(default_factory=dict)
    _folded: int = 0

    def violations(self) -> Iterator[str]:
        """Describes the first transaction that is wrong, and what is wrong at the end."""
        checkpoint, found = Checkpoint(), False
        changed: set[bytes] = set()
        for record in self.log.of(topics.CHANNEL_STATE, self.partition):
            key = record.key or b""
            if key == CHECKPOINT_KEY:
                before, checkpoint = checkpoint, Checkpoint.model_validate_json(record.value or b"{}")
                channels = self._fold_to(checkpoint.partitionsequence)
                problem = self._checkpoint_error(before, checkpoint) or self._state_error(channels, changed)
                if problem is not None and not found:
                    found = True
                    yield f"4: {record.position}: {problem}"
                changed.clear()
            elif not key.startswith(_RESERVED_PREFIX):
                changed.add(key)
                self._put(key, record.value)
        yield from self._final_violations(checkpoint, changed)

    def _put(self, key: bytes, value: bytes | None) -> None:
        if value is None:
            self._table.pop(key, None)
        else:
            self._table[key] = value

    def _checkpoint_error(self, before: Checkpoint, checkpoint: Checkpoint) -> str | None:
        if checkpoint.next_offset <= before.next_offset:
            return f"the checkpoint is at offset {checkpoint.next_offset}, after one at {before.next_offset}"
        number = bisect_left(self.event_counts, (checkpoint.next_offset, 0))
        count = self.event_counts[number - 1][1] if number else 0
        if count != checkpoint.partitionsequence:
            return (
                f"the checkpoint counts {checkpoint.partitionsequence} events, "
                f"but the commands before it appended {count}"
            )
        return None

    def _fold_to(self, end: int) -> set[str]:
        """Folds the events up to the one with that number; returns their channels."""
        events, self._folded = self.events[self._folded : end], max(self._folded, end)
        for record, event in events:
            metadata = EventMetadata(
                event.sequence, unix_milliseconds(event.time), sha256(record.value or b"").hexdigest()
            )
            body = cast("Event", event.body())
            try:
                self._states[event.subject] = evolve(self._states[event.subject], body, event.accountid, metadata)
            except ImpossibleHistory:
                continue  # a history that decisions cannot have made: the other checks name the record
        return {event.subject for _, event in events}

    def _state_error(self, channels: set[str], changed: set[bytes]) -> str | None:
        expected: dict[bytes, object] = {}
        for channel in channels | {key.decode().partition("/")[0] for key in changed}:
            state = self._states[channel]
            expected[channel_key(channel)] = state.channel
            systems = state.channel.systems if state.channel else ()
            expected |= {system_key(channel, one): state.system(one) for one in systems}
        for key in sorted(expected.keys() | changed):
            if self._state_record(key) != expected.get(key):
                return f"the state record {key.decode()} is not the fold of its events"
        return None

    def _state_record(self, key: bytes) -> object:
        value = self._table.get(key)
        return None if value is None else (BUSINESS_SYSTEM if b"/" in key else CHANNEL).decode(value)

    def _final_violations(self, checkpoint: Checkpoint, changed: set[bytes]) -> Iterator[str]:
        partition = f"partition {self.partition}"
        for key in changed:
            yield f"4: {partition}: the state record {key.decode()} is followed by no checkpoint"
        if checkpoint.partitionsequence != len(self.events):
            counts = f"{checkpoint.partitionsequence} events, the log {len(self.events)}"
            yield f"4: {partition}: the checkpoint counts {counts}"
        commands = self.log.of(topics.COMMANDS, self.partition)
        if commands and checkpoint.next_offset <= commands[-1].position.offset:
            yield f"4: {partition}: the checkpoint is at {checkpoint.next_offset}, before {commands[-1].position}"
        self._fold_to(len(self.events))
        yield from self._heads()
        yield from self._secrets()

    def _heads(self) -> Iterator[str]:
        """11: channel-state holds the hash of each channel's last event."""
        for channel, state in self._states.items():
            kept = self._table.get(channel_key(channel))
            head = None if kept is None else CHANNEL.decode(kept).head
            if state.channel is not None and head != state.channel.head:
                yield f"11: channel-state does not hold the hash of the last event on {channel}"

    def _secrets(self) -> Iterator[str]:
        compacted = self.log.compacted(topics.SIGNATURES, self.partition)
        kept = {key for key in compacted if not key.startswith(_RESERVED_PREFIX)}
        current, known = _signature_keys(self._states)
        for key in current - kept:
            yield f"4: partition {self.partition}: the secret of {key.decode()} is gone"
        for key in kept - known:
            name = key.decode()
            yield f"4: partition {self.partition}: a secret of {name}, which no event issued or an event deleted"


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

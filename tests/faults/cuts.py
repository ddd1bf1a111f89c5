"""Invariant 4: at every committed cut, channel-state is the fold of the events, and its checkpoint where they are."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import cast

from contracts import topics
from contracts.commands import Event
from contracts.envelope import EventEnvelope
from contracts.message import milliseconds_of
from services.decider.partition_state import CHECKPOINT_KEY, Checkpoint, channel_key, system_key
from services.domain.decision import Mark
from services.domain.evolve import evolve
from services.domain.records import BUSINESS_SYSTEM, CHANNEL
from services.domain.state import ChannelState
from services.infrastructure.vault import SignatureAddress
from tests.faults.log import Log, LogRecord

_OURS = b"~"
"""No channel's id begins with it: the checkpoint's key, and whatever else is not a channel's."""


@dataclass(slots=True)
class Cuts:
    """Walks through a partition's channel-state, transaction by transaction: each ends in a checkpoint.

    ``made`` are (offset of a command, how many events it and those before it made), in order. The topic must be young
    enough not to be compacted.
    """

    log: Log
    partition: int
    events: Sequence[tuple[LogRecord, EventEnvelope]]
    made: Sequence[tuple[int, int]]
    _states: dict[str, ChannelState] = field(default_factory=lambda: defaultdict(ChannelState))
    _table: dict[bytes, bytes] = field(default_factory=dict)
    _folded: int = 0

    def differences(self) -> Iterator[str]:
        """A sentence for the first cut that does not hold, and for what is wrong at the end."""
        at, found = Checkpoint(), False
        changed: set[bytes] = set()
        for record in self.log.of(topics.CHANNEL_STATE, self.partition):
            key = record.key or b""
            if key == CHECKPOINT_KEY:
                before, at = at, Checkpoint.model_validate_json(record.value or b"{}")
                channels = self._fold_to(at.partitionsequence)
                problem = self._out_of_place(before, at) or self._difference(channels, changed)
                if problem is not None and not found:
                    found = True
                    yield f"4: {record.place}: {problem}"
                changed.clear()
            elif not key.startswith(_OURS):
                changed.add(key)
                self._put(key, record.value)
        yield from self._at_the_end(at, changed)

    def _put(self, key: bytes, value: bytes | None) -> None:
        if value is None:
            self._table.pop(key, None)
        else:
            self._table[key] = value

    def _out_of_place(self, before: Checkpoint, at: Checkpoint) -> str | None:
        if at.next_offset <= before.next_offset:
            return f"the checkpoint is at offset {at.next_offset}, after one at {before.next_offset}"
        number = bisect_left(self.made, (at.next_offset, 0))
        made = self.made[number - 1][1] if number else 0
        if made != at.partitionsequence:
            return f"the checkpoint counts {at.partitionsequence} events, but {made} come of the commands before it"
        return None

    def _fold_to(self, end: int) -> set[str]:
        """Folds the events up to the one with that number; returns their channels."""
        events, self._folded = self.events[self._folded : end], max(self._folded, end)
        for record, event in events:
            mark = Mark(event.sequence, milliseconds_of(event.time), sha256(record.value or b"").hexdigest())
            body = cast("Event", event.body())
            try:
                self._states[event.subject] = evolve(self._states[event.subject], body, event.accountid, mark)
            except LookupError:
                continue  # a history that decisions cannot have made: the other checks name its record
        return {event.subject for _, event in events}

    def _difference(self, channels: set[str], changed: set[bytes]) -> str | None:
        expected: dict[bytes, object] = {}
        for channel in channels | {key.decode().partition("/")[0] for key in changed}:
            state = self._states[channel]
            expected[channel_key(channel)] = state.channel
            systems = state.channel.systems if state.channel else ()
            expected |= {system_key(channel, one): state.system(one) for one in systems}
        for key in sorted(expected.keys() | changed):
            kept = self._kept(key)
            if kept != expected.get(key):
                return f"the state record {key.decode()} is not the fold of its events"
        return None

    def _kept(self, key: bytes) -> object:
        value = self._table.get(key)
        return None if value is None else (BUSINESS_SYSTEM if b"/" in key else CHANNEL).decode(value)

    def _at_the_end(self, at: Checkpoint, changed: set[bytes]) -> Iterator[str]:
        where = f"partition {self.partition}"
        for key in changed:
            yield f"4: {where}: the state record {key.decode()} has no checkpoint behind it"
        if at.partitionsequence != len(self.events):
            yield f"4: {where}: the checkpoint counts {at.partitionsequence} events, the log {len(self.events)}"
        commands = self.log.of(topics.COMMANDS, self.partition)
        if commands and at.next_offset <= commands[-1].place.offset:
            yield f"4: {where}: the checkpoint is at {at.next_offset}, before {commands[-1].place}"
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
        kept = {key for key in self.log.compacted(topics.SIGNATURES, self.partition) if not key.startswith(_OURS)}
        current, known = _signature_keys(self._states)
        for key in current - kept:
            yield f"4: partition {self.partition}: the secret of {key.decode()} is gone"
        for key in kept - known:
            yield f"4: partition {self.partition}: a secret of {key.decode()}, which no event drew or one deleted"


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

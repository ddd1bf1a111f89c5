"""What an owner knows of its partition: records as bytes, decoded when touched, and a fork to decide a batch on."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict

from contracts import topics
from services.decider.memory import CommandMemory, RememberedAnswer
from services.domain.records import BUSINESS_SYSTEM, CHANNEL
from services.domain.state import BusinessSystem, ChannelState

CHECKPOINT_KEY = b"~checkpoint"
DECODED_BYTES_LIMIT = 4 * 1024 * 1024
"""How many bytes of a partition's state records may be kept decoded besides, for channels that are busy: some nine
thousand channels, which take three times as much when decoded."""


class Checkpoint(BaseModel):
    """The only truth about where the partition stands.

    ``next_offset`` is of the next command, ``partitionsequence`` of the last event, and ``outcomes_from`` the offset
    from which the memory of command ids is restored.
    """

    model_config = ConfigDict(frozen=True)

    v: int = 1
    next_offset: int = 0
    partitionsequence: int = 0
    outcomes_from: int = 0


def channel_key(channel: str) -> bytes:
    return channel.encode()


def system_key(channel: str, system: str) -> bytes:
    """Unique among state records: no id holds a slash."""
    return f"{channel}/{system}".encode()


@dataclass(slots=True)
class Tail:
    """When a compacted topic was last appended to, and when something that leaves an old value to be compacted away:
    a tombstone, or a secret encrypted anew. Unix milliseconds, 0 for never."""

    last: int = 0
    last_to_compact: int = 0

    def appended(self, at: int, *, leaves_old_value: bool) -> None:
        self.last = max(self.last, at)
        if leaves_old_value:
            self.last_to_compact = max(self.last_to_compact, at)

    def needs_roll(self, now: int, segment_ms: int) -> bool:
        """Whether what was deleted lies in a segment that only another append will close."""
        closes_after = self.last_to_compact + segment_ms
        return self.last_to_compact > 0 and self.last <= closes_after < now


@dataclass(slots=True)
class PartitionState:
    """Changes only by restoring and by adopting what was committed."""

    records: dict[bytes, bytes] = field(default_factory=dict)
    signatures: dict[bytes, bytes] = field(default_factory=dict)
    memory: CommandMemory = field(default_factory=CommandMemory)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    tails: dict[str, Tail] = field(
        default_factory=lambda: {topics.CHANNEL_STATE.name: Tail(), topics.SIGNATURES.name: Tail()}
    )
    """Of the compacted topics."""
    _decoded: OrderedDict[str, tuple[ChannelState, int]] = field(default_factory=OrderedDict)
    _decoded_bytes: int = 0

    def channel(self, channel: str) -> ChannelState:
        """The channel's state; an empty one where it is not known."""
        decoded = self._decoded.get(channel)
        if decoded is not None:
            self._decoded.move_to_end(channel)
            return decoded[0]
        value = self.records.get(channel_key(channel))
        if value is None:
            return ChannelState()
        return ChannelState(CHANNEL.decode(value), {}, self._loader(channel))

    def _loader(self, channel: str) -> Callable[[str], BusinessSystem]:
        """Decodes a business system of the channel when it is looked at first."""
        decoded: dict[str, BusinessSystem] = {}

        def load(system: str) -> BusinessSystem:
            if system not in decoded:
                decoded[system] = BUSINESS_SYSTEM.decode(self.records[system_key(channel, system)])
            return decoded[system]

        return load

    def adopt(self, fork: Fork, outcomes_at: int) -> None:
        """Takes over a fork whose transaction is committed; its first outcome is at offset ``outcomes_at``."""
        for table, changes in ((self.records, fork.changed_records()), (self.signatures, fork.signatures)):
            for key, value in changes.items():
                put(table, key, value)
        self.memory.adopt(outcomes_at, fork.answers)
        self.checkpoint = fork.checkpoint
        for channel, state in fork.channels.items():
            self._keep_decoded(channel, state)

    def _keep_decoded(self, channel: str, state: ChannelState) -> None:
        size = len(self.records.get(channel_key(channel), b""))
        for system in state.channel.systems if state.channel else ():
            size += len(self.records.get(system_key(channel, system), b""))
        _, earlier = self._decoded.pop(channel, (None, 0))
        self._decoded[channel] = (state, size)
        self._decoded_bytes += size - earlier
        while self._decoded_bytes > DECODED_BYTES_LIMIT and len(self._decoded) > 1:
            _, (_, freed) = self._decoded.popitem(last=False)
            self._decoded_bytes -= freed


def put(table: dict[bytes, bytes], key: bytes, value: bytes | None) -> None:
    """As a compacted topic has it: None deletes."""
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value


class Fork:
    """A batch's view of the partition: reads through to the state, and keeps every change to itself."""

    def __init__(self, state: PartitionState) -> None:
        self._state = state
        self.channels: dict[str, ChannelState] = {}
        """Those that changed."""
        self._before: dict[str, ChannelState] = {}
        """Those that were looked at, as they were; each is decoded once."""
        self.signatures: dict[bytes, bytes | None] = {}
        self.answers: dict[str, RememberedAnswer] = {}
        self.next_offset = state.checkpoint.next_offset
        self.partitionsequence = state.checkpoint.partitionsequence
        self.checkpoint = state.checkpoint
        self._changes: dict[bytes, bytes | None] | None = None

    def channel(self, channel: str) -> ChannelState:
        return self.channels.get(channel) or self._as_it_was(channel)

    def _as_it_was(self, channel: str) -> ChannelState:
        before = self._before.get(channel)
        if before is None:
            before = self._before[channel] = self._state.channel(channel)
        return before

    def knows(self, channel: str) -> bool:
        """Whether the channel lives here; a channel of another partition never gets any state."""
        return channel in self.channels or channel_key(channel) in self._state.records

    def checkpoint_at(self, outcomes_from: int) -> Checkpoint:
        """The checkpoint that the batch's transaction holds, once all is decided."""
        self.checkpoint = Checkpoint(
            next_offset=self.next_offset, partitionsequence=self.partitionsequence, outcomes_from=outcomes_from
        )
        return self.checkpoint

    def answer(self, key: str) -> RememberedAnswer | None:
        return self.answers.get(key) or self._state.memory.get(key)

    def signature(self, key: bytes) -> bytes | None:
        return self.signatures[key] if key in self.signatures else self._state.signatures.get(key)

    def changed_records(self) -> dict[bytes, bytes | None]:
        """The state records that differ from before, encoded; None is a tombstone. Asked for once all is decided."""
        if self._changes is None:
            self._changes = {}
            for channel, after in self.channels.items():
                _gather(self._changes, channel, self._as_it_was(channel), after)
        return self._changes


def _gather(changes: dict[bytes, bytes | None], channel: str, before: ChannelState, after: ChannelState) -> None:
    """Adds the records of a channel and its business systems that differ from before."""
    known, then = before.channel, after.channel
    if then is None or then is known:
        return
    changes[channel_key(channel)] = CHANNEL.encode(then)
    if after.touched is not before.touched:
        for system, record in after.touched.items():
            if before.touched.get(system) is not record:
                changes[system_key(channel, system)] = BUSINESS_SYSTEM.encode(record)
    if known is not None and then.systems is not known.systems:
        for system in known.systems.keys() - then.systems.keys():
            changes[system_key(channel, system)] = None

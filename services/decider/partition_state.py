"""A partition's state: its records as bytes, decoded on first access, and a fork on which a batch is decided."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from contracts import topics
from services.decider.idempotency_window import IdempotencyWindow, NewOutcome, RememberedOutcome
from services.domain.state import BusinessSystem, ChannelState
from services.domain.state_codec import BUSINESS_SYSTEM, CHANNEL
from services.domain.state_topic import Checkpoint, channel_key, system_key

DECODED_BYTES_LIMIT = 4 * 1024 * 1024
"""The size of the state records that are cached decoded, per partition: about 9,000 channels, which take three times as
much memory when decoded."""


@dataclass(slots=True)
class Tail:
    """The end of a compacted topic's partition: the times of the last append, and of the last append that leaves an old
    value to be compacted away (a tombstone, or a reencrypted secret). Unix milliseconds, 0 for never."""

    last: int = 0
    last_to_compact: int = 0

    def record_append(self, at: int, *, leaves_old_value: bool) -> None:
        self.last = max(self.last, at)
        if leaves_old_value:
            self.last_to_compact = max(self.last_to_compact, at)

    def needs_roll(self, now: int, segment_ms: int) -> bool:
        """Whether a deleted value is in a segment that only another append will close."""
        closes_after = self.last_to_compact + segment_ms
        return self.last_to_compact > 0 and self.last <= closes_after < now


@dataclass(slots=True)
class PartitionState:
    """Changes only by restoring, by adopting a committed fork, and by `read_commands_of`."""

    records: dict[bytes, bytes] = field(default_factory=dict)
    signatures: dict[bytes, bytes] = field(default_factory=dict)
    idempotency_window: IdempotencyWindow = field(default_factory=IdempotencyWindow)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    tails: dict[str, Tail] = field(
        default_factory=lambda: {topics.CHANNEL_STATE.name: Tail(), topics.SIGNATURES.name: Tail()}
    )
    """By the name of a compacted topic."""
    _decoded: OrderedDict[str, tuple[ChannelState, int]] = field(default_factory=OrderedDict)
    _decoded_bytes: int = 0

    def channel(self, channel: str) -> ChannelState:
        """The channel's state; an empty one where the channel is unknown."""
        decoded = self._decoded.get(channel)
        if decoded is not None:
            self._decoded.move_to_end(channel)
            return decoded[0]
        value = self.records.get(channel_key(channel))
        if value is None:
            return ChannelState()
        return ChannelState(CHANNEL.decode(value), {}, self._loader(channel))

    def _loader(self, channel: str) -> Callable[[str], BusinessSystem]:
        """Decodes a business system of the channel on first access."""
        decoded: dict[str, BusinessSystem] = {}

        def load(system: str) -> BusinessSystem:
            if system not in decoded:
                decoded[system] = BUSINESS_SYSTEM.decode(self.records[system_key(channel, system)])
            return decoded[system]

        return load

    def adopt(self, fork: Fork, outcomes_at: int, now: int) -> None:
        """Applies a fork whose transaction is committed; its first outcome is at offset ``outcomes_at``."""
        for table, changes in ((self.records, fork.changed_records()), (self.signatures, fork.signatures)):
            for key, value in changes.items():
                put(table, key, value)
        self.idempotency_window.adopt(outcomes_at, fork.outcome_count, fork.outcomes, now)
        self.checkpoint = fork.checkpoint
        for channel, state in fork.channels.items():
            self._cache_decoded(channel, state)

    def read_commands_of(self, reading: int | None) -> None:
        """Goes on with the next partition's commands from its beginning, the one before being read up to its cut."""
        self.checkpoint = self.checkpoint.model_copy(update={"reading": reading, "next_offset": 0})

    def _cache_decoded(self, channel: str, state: ChannelState) -> None:
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
    """Applies a record of a compacted topic: None deletes."""
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value


class OutcomeNotRead(Exception):
    """The command's id was used before, and its first outcome is to be read from `switchboard.outcomes`."""


class Fork:
    """A batch's view of the partition: reads fall through to the state, and changes stay in the fork.

    ``recalled`` are first outcomes that were read for this batch, by key; None where the id turned out to be unused.
    """

    def __init__(self, state: PartitionState, recalled: Mapping[str, RememberedOutcome | None] | None = None) -> None:
        self._state = state
        self._recalled = recalled or {}
        self.channels: dict[str, ChannelState] = {}
        """The changed ones."""
        self._before: dict[str, ChannelState] = {}
        """The accessed ones, before the batch; each is decoded once."""
        self.signatures: dict[bytes, bytes | None] = {}
        self.outcomes: dict[str, NewOutcome] = {}
        """The first outcomes that are to be remembered, by key."""
        self.outcome_count = 0
        self._new_by_account: Counter[str] = Counter()
        self.next_offset = state.checkpoint.next_offset
        self.reading = state.checkpoint.reading
        self.partitionsequence = state.checkpoint.partitionsequence
        self.checkpoint = state.checkpoint
        self._changes: dict[bytes, bytes | None] | None = None

    def channel(self, channel: str) -> ChannelState:
        return self.channels.get(channel) or self._channel_before(channel)

    def _channel_before(self, channel: str) -> ChannelState:
        before = self._before.get(channel)
        if before is None:
            before = self._before[channel] = self._state.channel(channel)
        return before

    def has_channel(self, channel: str) -> bool:
        """Whether this is the channel's home partition; a channel never has state on another one."""
        return channel in self.channels or channel_key(channel) in self._state.records

    def checkpoint_at(self, outcomes_from: int) -> Checkpoint:
        """The checkpoint of the batch's transaction. Called after the last decision."""
        self.checkpoint = Checkpoint(
            next_offset=self.next_offset,
            partitionsequence=self.partitionsequence,
            outcomes_from=outcomes_from,
            reading=self.reading,
        )
        return self.checkpoint

    def outcome(self, key: str) -> RememberedOutcome | None:
        """The first outcome of a command id; None where the id is new. Raises `OutcomeNotRead`."""
        new = self.outcomes.get(key)
        if new is not None:
            return new.outcome
        window = self._state.idempotency_window
        if key in self._recalled:
            return self._recalled[key]
        if (cached := window.cached(key)) is not None:
            return cached
        if window.position_of(key) is not None:
            raise OutcomeNotRead
        return None

    def remember(self, key: str, account: str, outcome: RememberedOutcome) -> None:
        """Remembers the outcome that is appended next."""
        self.outcomes[key] = NewOutcome(account, self.outcome_count, outcome)
        self._new_by_account[account] += 1

    def commands_of(self, account: str) -> int:
        """The number of the account's ids in the window, this batch included."""
        return self._state.idempotency_window.used_by(account) + self._new_by_account[account]

    def signature(self, key: bytes) -> bytes | None:
        return self.signatures[key] if key in self.signatures else self._state.signatures.get(key)

    def changed_records(self) -> dict[bytes, bytes | None]:
        """The encoded state records that the batch changed; None is a tombstone. Called after the last decision."""
        if self._changes is None:
            self._changes = {}
            for channel, after in self.channels.items():
                _collect_changes(self._changes, channel, self._channel_before(channel), after)
        return self._changes


def _collect_changes(
    changes: dict[bytes, bytes | None], channel: str, before: ChannelState, after: ChannelState
) -> None:
    """Adds the changed records of a channel and its business systems."""
    earlier, later = before.channel, after.channel
    if later is None or later is earlier:
        return
    changes[channel_key(channel)] = CHANNEL.encode(later)
    if after.changed_systems is not before.changed_systems:
        for system, record in after.changed_systems.items():
            if before.changed_systems.get(system) is not record:
                changes[system_key(channel, system)] = BUSINESS_SYSTEM.encode(record)
    if earlier is not None and later.systems is not earlier.systems:
        for system in earlier.systems.keys() - later.systems.keys():
            changes[system_key(channel, system)] = None

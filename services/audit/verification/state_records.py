"""The records of ``switchboard.channel-state``, and whether the events fold to them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, field, replace

from aiokafka import TopicPartition
from pydantic import ValidationError
from pydantic_core import from_json

from contracts.json_values import same_json
from services.audit.log.recorded_event import FoldedChannels, open_systems
from services.audit.log.source import WAITS_S, Log, LogPosition, LogRecord, OffsetRange, position_of
from services.domain.state import BusinessSystem, Channel, ChannelState
from services.domain.state_codec import BUSINESS_SYSTEM, CHANNEL, RecordFormat
from services.domain.state_topic import CHECKPOINT_KEY, RESERVED_PREFIX, Checkpoint, channel_key, system_key


@dataclass(slots=True)
class StateRecords:
    """A partition's state as `channel-state` has it: the last value of each key, and the checkpoint of that cut."""

    read_to: int = 0
    records: dict[bytes, bytes] = field(default_factory=dict)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    has_checkpoint: bool = False
    unreadable: LogPosition | None = None
    """Where the checkpoint lies, if it cannot be read."""

    def process(self, record: LogRecord) -> None:
        key = record.key or b""
        if key == CHECKPOINT_KEY:
            self.has_checkpoint = record.value is not None
            try:
                self.checkpoint = Checkpoint.model_validate_json(record.value or b"{}")
            except ValidationError:
                self.unreadable = position_of(record)
                self.checkpoint = Checkpoint()
            else:
                self.unreadable = None
        elif key.startswith(RESERVED_PREFIX):
            return  # the decider's own, which no event folds to
        elif record.value is None:
            self.records.pop(key, None)
        else:
            self.records[key] = record.value

    def heads(self) -> dict[str, str]:
        """Channel -> the hash of its last event, of those whose record can be read."""
        found = {}
        for key, value in self.records.items():
            if b"/" not in key and (record := _readable(CHANNEL, value)) is not None:
                found[key.decode(errors="replace")] = record.head
        return found


def _readable(form: RecordFormat[Channel], value: bytes) -> Channel | None:
    try:
        return form.decode(value)
    except ValueError:  # no such record, or one of a newer release
        return None


async def read_state(log: Log, source: TopicPartition, offsets: OffsetRange) -> StateRecords:
    """The partition's state at the end of the offsets."""
    state = StateRecords()
    await _read_on(log, source, offsets, state)
    return state


async def _read_on(log: Log, source: TopicPartition, offsets: OffsetRange, state: StateRecords) -> None:
    async for batch in log.read(source, OffsetRange(max(offsets.first, state.read_to), offsets.end)):
        for record in batch:
            state.process(record)
    state.read_to = offsets.end


async def read_on_until(log: Log, source: TopicPartition, state: StateRecords, partitionsequence: int) -> bool:
    """Reads on, after the events were read, until the checkpoint counts that many events of the partition.

    The decider appends events and moves the checkpoint in one transaction. So an event that no checkpoint counts, even
    after some seconds for the markers of the transaction, was appended by something else. Returns whether all are
    counted; True for a copy of the log, whose state is older than its events.
    """
    waits = iter(WAITS_S)
    while log.partitions and state.checkpoint.partitionsequence < partitionsequence and state.unreadable is None:
        ranges = await log.offset_ranges(source.topic)
        await _read_on(log, source, ranges[source], state)
        if state.checkpoint.partitionsequence >= partitionsequence:
            return True
        if (wait := next(waits, None)) is None:
            return False
        await asyncio.sleep(wait)
    return True


@dataclass(frozen=True, slots=True)
class StateDifference:
    """A clause on a channel whose records are not what its events fold to.

    ``at_its_end``: both are of the channel's same version, so that its last event is where they part.
    """

    channel: str
    what: str
    at_its_end: bool = True


def compare(
    folds: FoldedChannels, state: StateRecords, unfolded: Set[str], lives_here: Callable[[str], bool]
) -> Iterator[StateDifference]:
    """Yields the differences at the same cut, without the ``unfolded`` channels, whose events are broken, and without
    those that have moved to another partition."""
    seen = set()
    for channel, folded in folds.items():
        if not lives_here(channel):
            continue
        folded = _as_stored(folded, state.records.get(channel_key(channel)))
        if folded.channel is None:
            continue
        key = channel_key(channel)
        systems = {system_key(channel, name): record for name, record in open_systems(folded).items()}
        seen |= {key, *systems}
        if channel in unfolded:
            continue
        differing = _differing(CHANNEL, state.records.get(key), folded.channel)
        if differing is not None:
            found = _readable(CHANNEL, state.records.get(key, b""))
            same_version = found is not None and found.version == folded.channel.version
            yield StateDifference(channel, f"its record in channel-state {differing}", same_version)
            continue
        for record_key, record in systems.items():
            differing = _differing(BUSINESS_SYSTEM, state.records.get(record_key), record)
            if differing is not None:
                name = record_key.decode().partition("/")[2]
                yield StateDifference(channel, f"the record of business system {name!r} in channel-state {differing}")
    for key in state.records.keys() - seen:
        channel = key.decode(errors="replace").partition("/")[0]
        if channel not in unfolded:
            what = f"channel-state has a record {key.decode(errors='replace')!r} that no event led to"
            yield StateDifference(channel, what, at_its_end=False)


def _as_stored(folded: ChannelState, value: bytes | None) -> ChannelState:
    """The fold without the business systems of a retired channel where its record has none: earlier releases deleted
    them, and no later event writes the record again."""
    channel = folded.channel
    if channel is None or not channel.retired or not channel.systems or value is None:
        return folded
    stored = _readable(CHANNEL, value)
    return folded if stored is None or stored.systems else ChannelState(replace(channel, systems={}))


def _differing(
    form: RecordFormat[Channel] | RecordFormat[BusinessSystem], value: bytes | None, folded: Channel | BusinessSystem
) -> str | None:
    if value is None:
        return "is missing"
    expected: bytes = form.encode(folded)  # type: ignore[arg-type]  # the record is of the format's kind
    if value == expected:
        return None
    try:
        found = form.decode(value)
    except ValueError:
        return "cannot be read"
    if found == folded:
        # Decoding takes 1 for true, and to Python -5.0 equals -5: the JSON is compared as well.
        return None if _has_values(from_json(value), from_json(expected)) else "has another JSON value than the events"
    fields = [name for name in type(folded).__dataclass_fields__ if getattr(found, name) != getattr(folded, name)]
    return f"is not what the events fold to: {', '.join(fields)}"


def _has_values(stored: object, expected: object) -> bool:
    """Whether the stored JSON has every expected value; a default that it spells out is no difference."""
    if isinstance(stored, dict) and isinstance(expected, dict):
        return all(
            name in stored and _has_values(stored[name], value) for name, value in expected.items() if name != "v"
        )
    if isinstance(stored, list) and isinstance(expected, list):
        return len(stored) == len(expected) and all(map(_has_values, stored, expected))
    return same_json(stored, expected)

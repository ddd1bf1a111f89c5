"""The records of ``switchboard.channel-state``, and whether the events fold to them."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass, field

from pydantic import BaseModel, ValidationError

from services.audit.history import Folds, systems_of
from services.audit.log import Log, LogRecord, Position, Source, Span, position_of
from services.domain.records import BUSINESS_SYSTEM, CHANNEL, RecordFormat
from services.domain.state import BusinessSystem, Channel

CHECKPOINT_KEY = b"~checkpoint"


class Checkpoint(BaseModel):
    """What the audit reads of the decider's checkpoint: the partitionsequence of the last event it covers."""

    partitionsequence: int = 0


@dataclass(slots=True)
class StateRecords:
    """A partition's state as `channel-state` has it: the last value of each key, and the checkpoint of that cut."""

    records: dict[bytes, bytes] = field(default_factory=dict)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    unreadable: Position | None = None
    """Where the checkpoint lies, if it cannot be read."""

    def take(self, record: LogRecord) -> None:
        key = record.key or b""
        if key == CHECKPOINT_KEY:
            try:
                self.checkpoint = Checkpoint.model_validate_json(record.value or b"{}")
            except ValidationError:
                self.unreadable = position_of(record)
                self.checkpoint = Checkpoint()
            else:
                self.unreadable = None
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


async def read_state(log: Log, source: Source, span: Span) -> StateRecords:
    """The partition's state at the end of the span."""
    state = StateRecords()
    async for batch in log.read(source, span):
        for record in batch:
            state.take(record)
    return state


@dataclass(frozen=True, slots=True)
class Difference:
    """A clause on a channel whose records are not what its events fold to.

    ``at_its_end``: both are of the channel's same version, so that its last event is where they part.
    """

    channel: str
    what: str
    at_its_end: bool = True


def compare(folds: Folds, state: StateRecords, unfolded: Set[str]) -> Iterator[Difference]:
    """What differs at the same cut. Channels in ``unfolded`` are left out: their events are broken already."""
    seen = set()
    for channel, folded in folds.items():
        if folded.channel is None:
            continue
        key = channel.encode()
        systems = {f"{channel}/{name}".encode(): record for name, record in systems_of(folded).items()}
        seen |= {key, *systems}
        if channel in unfolded:
            continue
        differing = _differing(CHANNEL, state.records.get(key), folded.channel)
        if differing is not None:
            found = _readable(CHANNEL, state.records.get(key, b""))
            same_version = found is not None and found.version == folded.channel.version
            yield Difference(channel, f"its record in channel-state {differing}", same_version)
            continue
        for system_key, record in systems.items():
            differing = _differing(BUSINESS_SYSTEM, state.records.get(system_key), record)
            if differing is not None:
                name = system_key.decode().partition("/")[2]
                yield Difference(channel, f"the record of business system {name!r} in channel-state {differing}")
    for key in state.records.keys() - seen:
        channel = key.decode(errors="replace").partition("/")[0]
        if channel not in unfolded:
            what = f"channel-state has a record {key.decode(errors='replace')!r} that no event led to"
            yield Difference(channel, what, at_its_end=False)


def _differing(
    form: RecordFormat[Channel] | RecordFormat[BusinessSystem], value: bytes | None, folded: Channel | BusinessSystem
) -> str | None:
    if value is None:
        return "is missing"
    try:
        found = form.decode(value)
    except ValueError:
        return "cannot be read"
    if found == folded:
        return None
    fields = [name for name in type(folded).__dataclass_fields__ if getattr(found, name) != getattr(folded, name)]
    return f"is not what the events fold to: {', '.join(fields)}"

"""The event in a record of the events topic, and a channel's state folded from it by the domain's own `evolve`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from pydantic import ValidationError

from contracts.envelope import EventEnvelope
from contracts.message import EventData, unix_milliseconds
from contracts.message_types import EVENTS
from services.audit.log.errors import BrokenLog
from services.audit.log.source import LogPosition, LogRecord
from services.domain.decision import EventMetadata
from services.domain.evolve import evolve
from services.domain.state import BusinessSystem, ChannelState, ImpossibleHistory
from services.domain.state_codec import BUSINESS_SYSTEM, CHANNEL

DECODED_PARTS = 50_000
"""So many channels, business systems and intents together are kept decoded at once, some 60 MB where they are of the
usual size; the other channels as the bytes of their state records."""


class UnreadableEvent(Exception):
    """The record's value cannot be read as an event; the message is a clause that says why."""


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """An event with what its record says. ``body`` is None where its type is newer than this program.

    ``time`` is Unix milliseconds, ``digest`` the hex SHA-256 of the record's value.
    """

    envelope: EventEnvelope
    body: EventData | None
    time: int
    digest: str
    position: LogPosition


def parse_event(record: LogRecord) -> RecordedEvent:
    """Raises `UnreadableEvent`."""
    value = record.value
    if value is None:
        raise UnreadableEvent("it has no value")
    try:
        envelope = EventEnvelope.model_validate_json(value)
        kind = EVENTS.get(envelope.type)
        body = None if kind is None else kind.model_validate(envelope.data)
        time = unix_milliseconds(envelope.time)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the value"
        raise UnreadableEvent(f"{where}: {first['msg']}") from None
    except ValueError as error:
        raise UnreadableEvent(str(error)) from None
    position = LogPosition(record.topic, record.partition, record.offset)
    return RecordedEvent(envelope, body, time, sha256(value).hexdigest(), position)


def fold(state: ChannelState, event: RecordedEvent) -> ChannelState:
    """The state after the event. Raises `ImpossibleHistory` where no decision can have led to it."""
    envelope = event.envelope
    mark = EventMetadata(envelope.sequence, event.time, event.digest)
    if event.body is not None:
        body: Any = event.body
        return evolve(state, body, envelope.accountid, mark)
    if state.channel is None:
        raise ImpossibleHistory(f"{envelope.type} happened to a channel that was never registered")
    return state.with_channel(state.channel.after(mark))


def fold_unbroken(state: ChannelState, event: RecordedEvent) -> ChannelState:
    """The state after the event. Raises `BrokenLog` where no decision can have led to it."""
    try:
        return fold(state, event)
    except ImpossibleHistory as error:
        raise BrokenLog(
            f"The log cannot be folded at {event.position}: {error}; `switchboard audit verify` names the fault."
        ) from None


class FoldedChannels:
    """The state of many channels. What was not touched for long is kept as bytes, so that a million channels fit."""

    def __init__(self, decoded: int = DECODED_PARTS) -> None:
        self._decoded: OrderedDict[str, tuple[ChannelState, int]] = OrderedDict()
        self._encoded: dict[str, tuple[bytes, dict[str, bytes]]] = {}
        self._limit, self._parts = decoded, 0

    def __len__(self) -> int:
        return len(self._decoded) + len(self._encoded)

    def __iter__(self) -> Iterator[str]:
        yield from self._decoded
        yield from self._encoded

    def get(self, channel: str) -> ChannelState:
        """An empty state where the channel is not known."""
        found = self._decoded.get(channel)
        if found is not None:
            return found[0]
        encoded = self._encoded.get(channel)
        return ChannelState() if encoded is None else _decoded(encoded)

    def put(self, channel: str, state: ChannelState) -> None:
        self._encoded.pop(channel, None)
        _, before = self._decoded.pop(channel, (None, 0))
        parts = 1 + sum(1 + len(system.intents) for system in state.changed_systems.values())
        self._decoded[channel] = (state, parts)
        self._parts += parts - before
        while self._parts > self._limit and len(self._decoded) > 1:
            oldest, (old, freed) = self._decoded.popitem(last=False)
            self._encoded[oldest] = _encoded(old)
            self._parts -= freed

    def items(self) -> Iterator[tuple[str, ChannelState]]:
        for channel, (state, _) in self._decoded.items():
            yield channel, state
        for channel, encoded in self._encoded.items():
            yield channel, _decoded(encoded)


def open_systems(state: ChannelState) -> dict[str, BusinessSystem]:
    """The open business systems by id, sorted."""
    if state.channel is None:
        return {}
    found = {name: state.system(name) for name in sorted(state.channel.systems)}
    return {name: record for name, record in found.items() if record is not None}


def _encoded(state: ChannelState) -> tuple[bytes, dict[str, bytes]]:
    if state.channel is None:
        raise ValueError("only a registered channel has records")
    systems = {name: BUSINESS_SYSTEM.encode(record) for name, record in open_systems(state).items()}
    return CHANNEL.encode(state.channel), systems


def _decoded(encoded: tuple[bytes, dict[str, bytes]]) -> ChannelState:
    channel, systems = encoded
    return ChannelState(
        CHANNEL.decode(channel), {name: BUSINESS_SYSTEM.decode(value) for name, value in systems.items()}
    )

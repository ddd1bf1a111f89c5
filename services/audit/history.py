"""What a record of the events topic says, and a channel's state folded from it by the domain's own `evolve`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from pydantic import ValidationError

from contracts.commands import EVENTS
from contracts.envelope import EventEnvelope
from contracts.message import EventData, milliseconds_of
from services.audit.log import LogRecord, Position
from services.domain.decision import Mark
from services.domain.evolve import evolve
from services.domain.records import BUSINESS_SYSTEM, CHANNEL
from services.domain.state import BusinessSystem, ChannelState

DECODED_PARTS = 50_000
"""So many channels, business systems and intents together are kept decoded at once, some 60 MB where they are of the
usual size; the other channels as the bytes of their state records."""


class NotAnEvent(Exception):
    """The record's value is no event that can be read; the clause says why."""


@dataclass(frozen=True, slots=True)
class Happened:
    """An event with what its record says. ``body`` is None where its type is newer than this program.

    ``time`` is Unix milliseconds, ``digest`` the hex SHA-256 of the record's value.
    """

    envelope: EventEnvelope
    body: EventData | None
    time: int
    digest: str
    position: Position


def happened(record: LogRecord) -> Happened:
    """Raises `NotAnEvent`."""
    value = record.value
    if value is None:
        raise NotAnEvent("it has no value")
    try:
        envelope = EventEnvelope.model_validate_json(value)
        kind = EVENTS.get(envelope.type)
        body = None if kind is None else kind.model_validate(envelope.data)
        time = milliseconds_of(envelope.time)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the value"
        raise NotAnEvent(f"{where}: {first['msg']}") from None
    except ValueError as error:
        raise NotAnEvent(str(error)) from None
    position = Position(record.topic, record.partition, record.offset)
    return Happened(envelope, body, time, sha256(value).hexdigest(), position)


def fold(state: ChannelState, event: Happened) -> ChannelState:
    """The state after the event. Raises LookupError where the history is none that decisions can have made."""
    envelope = event.envelope
    mark = Mark(envelope.sequence, event.time, event.digest)
    if event.body is not None:
        body: Any = event.body
        return evolve(state, body, envelope.accountid, mark)
    if state.channel is None:
        raise LookupError(f"{envelope.type} happened to a channel that was never registered")
    return state.with_channel(replace(state.channel, version=mark.version, time=mark.time, head=mark.head))


class Folds:
    """The state of many channels. What was not touched for long is kept as bytes, so that a million channels fit."""

    def __init__(self, decoded: int = DECODED_PARTS) -> None:
        self._decoded: OrderedDict[str, tuple[ChannelState, int]] = OrderedDict()
        self._encoded: dict[str, tuple[bytes, dict[str, bytes]]] = {}
        self._limit, self._parts = decoded, 0

    def __len__(self) -> int:
        return len(self._decoded) + len(self._encoded)

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
        parts = 1 + sum(1 + len(system.intents) for system in state.touched.values())
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


def systems_of(state: ChannelState) -> dict[str, BusinessSystem]:
    """The open business systems by id, sorted."""
    if state.channel is None:
        return {}
    found = {name: state.system(name) for name in sorted(state.channel.systems)}
    return {name: record for name, record in found.items() if record is not None}


def _encoded(state: ChannelState) -> tuple[bytes, dict[str, bytes]]:
    if state.channel is None:
        raise ValueError("only a registered channel has records")
    systems = {name: BUSINESS_SYSTEM.encode(record) for name, record in systems_of(state).items()}
    return CHANNEL.encode(state.channel), systems


def _decoded(encoded: tuple[bytes, dict[str, bytes]]) -> ChannelState:
    channel, systems = encoded
    return ChannelState(
        CHANNEL.decode(channel), {name: BUSINESS_SYSTEM.decode(value) for name, value in systems.items()}
    )

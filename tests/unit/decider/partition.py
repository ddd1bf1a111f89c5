"""One partition as its owner runs it, its log a few lists: take a batch, decide it, commit it, adopt it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from contracts import topics
from contracts.message import CommandData, milliseconds_of
from contracts.partitioner import partition_of
from services.decider.batch import Batch, Deciding
from services.decider.partition_state import CHECKPOINT_KEY, Checkpoint, Fork, PartitionState, put
from services.decider.restore import _remember
from services.domain.address import Allowances
from services.infrastructure.transactions import OutgoingRecord
from services.infrastructure.vault import KeyRing

PARTITIONS = 4
CHANNEL = "ch-1"
HOME = partition_of(CHANNEL, PARTITIONS)
ELSEWHERE = next(name for number in range(99) if partition_of(name := f"ch-{number}", PARTITIONS) != HOME)
NOW = milliseconds_of("2026-11-22T08:00:00Z")


@dataclass
class Incoming:
    """A record of the commands topic."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass
class Stored:
    """A record as it is read back."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]

    def json(self) -> Any:
        assert self.value is not None
        return json.loads(self.value)


def envelope(command: CommandData | str, command_id: str, **attributes: Any) -> dict[str, Any]:
    """A command as a publisher writes it; ``attributes`` replace or add to its own."""
    data = {} if isinstance(command, str) else command.model_dump(mode="json", exclude_unset=True, by_alias=True)
    return {
        "specversion": "1.0",
        "id": command_id,
        "type": command if isinstance(command, str) else type(command).__name__,
        "source": "test",
        "subject": CHANNEL,
        "accountid": "acme",
        "data": data,
    } | attributes


@dataclass
class Partition:
    number: int = HOME
    state: PartitionState = field(default_factory=PartitionState)
    log: dict[str, list[Stored]] = field(default_factory=dict)
    forwarded: list[OutgoingRecord] = field(default_factory=list)
    next_offset: int = 0
    now: int = NOW
    keyring: KeyRing = field(default_factory=lambda: KeyRing.parse(KeyRing.make()))
    failures_in_a_row: int = 0

    def batch(self) -> Batch:
        deciding = Deciding(self.number, PARTITIONS, self.keyring, Allowances.parse(()))
        return Batch(deciding, Fork(self.state), self.now, failures_in_a_row=self.failures_in_a_row)

    def incoming(self, value: dict[str, Any] | bytes | None, headers: Sequence[tuple[str, bytes]] = ()) -> Incoming:
        encoded = json.dumps(value).encode() if isinstance(value, dict) else value
        self.next_offset += 1
        return Incoming(self.next_offset - 1, CHANNEL.encode(), encoded, headers)

    def run(self, *values: dict[str, Any] | bytes | None) -> list[Any]:
        """One committed batch; returns its outcomes."""
        return self.commit([self.incoming(value) for value in values])

    def commit(self, incoming: Sequence[Incoming]) -> list[Any]:
        batch = self.batch()
        for one in incoming:
            batch.take(one)
        before = len(self.read(topics.OUTCOMES.name))
        for record in batch.transaction(self.state.memory.restorable_from):
            if record.topic == topics.COMMANDS.name:
                self.forwarded.append(record)
            else:
                assert record.partition == self.number
                kept = self.log.setdefault(record.topic, [])
                kept.append(Stored(len(kept), record.key, record.value, record.headers))
        self.state.adopt(batch.fork, before)
        self.failures_in_a_row = batch.failures_in_a_row
        return [outcome.json() for outcome in self.read(topics.OUTCOMES.name)[before:]]

    def read(self, topic: str) -> list[Stored]:
        return self.log.get(topic, [])

    def events(self) -> list[Any]:
        return [record.json() for record in self.read(topics.EVENTS.name)]

    def restored(self) -> PartitionState:
        """The state as the next owner restores it from the log."""
        state = PartitionState()
        for record in self.read(topics.CHANNEL_STATE.name):
            if record.key == CHECKPOINT_KEY:
                assert record.value is not None
                state.checkpoint = Checkpoint.model_validate_json(record.value)
            else:
                put(state.records, record.key or b"", record.value)
        for record in self.read(topics.SIGNATURES.name):
            put(state.signatures, record.key or b"", record.value)
        _remember(state, self.read(topics.OUTCOMES.name)[state.checkpoint.outcomes_from :])
        return state

"""One partition as its owner runs it, with lists as its log: decides a batch, commits it, adopts it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from contracts import topics
from contracts.business_system import OpenBusinessSystem
from contracts.channel import RegisterChannel
from contracts.message import CommandData, unix_milliseconds
from contracts.partitioner import partition_of
from contracts.sms import ToggleSms
from services.decider.batch import Batch
from services.decider.config import DeciderConfig
from services.decider.idempotency_window import COMMANDS_PER_ACCOUNT, RememberedOutcome, chunk_keys
from services.decider.outcome_recall import command_keys, outcome_of
from services.decider.partition_state import Fork, PartitionState, put
from services.decider.restore import _remember_outcomes
from services.domain.state_topic import CHECKPOINT_KEY, Checkpoint
from services.domain.url_policy import Allowlist
from services.infrastructure.transactions import OutgoingRecord
from services.infrastructure.vault import KeyRing
from services.schema_validation.validator import SchemaValidator

PARTITIONS = 4
CHANNEL = "ch-1"
HOME = partition_of(CHANNEL, PARTITIONS)
ELSEWHERE = next(name for number in range(99) if partition_of(name := f"ch-{number}", PARTITIONS) != HOME)
NOW = unix_milliseconds("2026-11-22T08:00:00Z")

REGISTER = RegisterChannel(channel_type="whatsapp", name="Shop", enterprise_authenticated=True)
OPEN = OpenBusinessSystem(system="crm", name="CRM", api_request_url="https://crm.example/hook")
ON, OFF = ToggleSms(enabled=True), ToggleSms(enabled=False)


def channel_at_home(prefix: str) -> str:
    """Another channel of the same home partition."""
    return next(name for number in range(99) if partition_of(name := f"{prefix}-{number}", PARTITIONS) == HOME)


def rejection_of(outcome: dict[str, Any]) -> str | None:
    name: str | None = outcome["data"].get("rejection")
    return name


@dataclass
class Incoming:
    """A record of the commands topic."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass
class Stored:
    """A committed record."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    timestamp: int = NOW

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
    consecutive_failures: int = 0
    commands_per_account: int = COMMANDS_PER_ACCOUNT
    schemas: SchemaValidator = field(default_factory=SchemaValidator)
    allowlist: Allowlist = field(default_factory=Allowlist)

    def batch(self, incoming: Sequence[Incoming] = ()) -> Batch:
        config = DeciderConfig(
            self.number, PARTITIONS, self.keyring, self.allowlist, self.commands_per_account, self.schemas
        )
        fork = Fork(self.state, self._recalled(incoming))
        return Batch(config, fork, self.now, consecutive_failures=self.consecutive_failures)

    def _recalled(self, incoming: Sequence[Incoming]) -> dict[str, RememberedOutcome | None]:
        """The first outcomes of repeated ids, as the owner reads them from their topic."""
        outcomes, window = self.read(topics.OUTCOMES.name), self.state.idempotency_window
        places = {key: place for key in command_keys(incoming) if (place := window.position_of(key)) is not None}
        return {key: outcome_of(outcomes[place.offset], key) for key, place in places.items()}

    def incoming(self, value: dict[str, Any] | bytes | None, headers: Sequence[tuple[str, bytes]] = ()) -> Incoming:
        encoded = json.dumps(value).encode() if isinstance(value, dict) else value
        self.next_offset += 1
        return Incoming(self.next_offset - 1, CHANNEL.encode(), encoded, headers)

    def run(self, *values: dict[str, Any] | bytes | None) -> list[Any]:
        """One committed batch; returns its outcomes."""
        return self.commit([self.incoming(value) for value in values])

    def commit(self, incoming: Sequence[Incoming]) -> list[Any]:
        batch = self.batch(incoming)
        for command in incoming:
            batch.process(command)
        before = len(self.read(topics.OUTCOMES.name))
        for record in batch.transaction(self.state.idempotency_window.restorable_from):
            if record.topic == topics.COMMANDS.name:
                self.forwarded.append(record)
            else:
                assert record.partition == self.number
                kept = self.log.setdefault(record.topic, [])
                kept.append(Stored(len(kept), record.key, record.value, record.headers, self.now))
        self.state.adopt(batch.fork, before, self.now)
        self.consecutive_failures = batch.consecutive_failures
        self.store_window()
        return [outcome.json() for outcome in self.read(topics.OUTCOMES.name)[before:]]

    def store_window(self) -> None:
        """As the owner's maintenance does after each batch."""
        due = self.state.idempotency_window.due(self.now)
        stored = self.log.setdefault(topics.CHANNEL_STATE.name, [])
        stored += [Stored(len(stored), key, value, (), self.now) for key, value in due.items()]
        self.state.idempotency_window.done(due)

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
        state.idempotency_window.restore_chunks({key: state.records.pop(key) for key in chunk_keys(state.records)})
        for record in self.read(topics.SIGNATURES.name):
            put(state.signatures, record.key or b"", record.value)
        _remember_outcomes(state, self.read(topics.OUTCOMES.name)[state.checkpoint.outcomes_from :])
        return state

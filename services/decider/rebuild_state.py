"""`switchboard state rebuild`: folds the decider's state from the log of events, compares, and corrects it, offline.

The state records are a cache of the log. Two things cannot be folded: the checkpoint's offset in the commands is kept,
because no event says which rejected commands came before it; and no event contains a secret, so missing secrets are
only reported.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient
from pydantic import ValidationError
from pydantic_core import to_json

from contracts import topics
from contracts.envelope import GENESIS, EventEnvelope
from contracts.kafka.partition_growth import read_partitions
from contracts.message import unix_milliseconds
from contracts.partition_growth import Parent
from contracts.partitioner import partition_of
from services.decider.fencing import append_in_parts, fenced_producer
from services.decider.partition_state import Fork, PartitionState
from services.decider.restore import restore
from services.decider.service import GROUP
from services.domain.decision import EventMetadata
from services.domain.evolve import evolve
from services.domain.state import ImpossibleHistory
from services.domain.state_codec import BUSINESS_SYSTEM, CHANNEL
from services.domain.state_topic import CHECKPOINT_KEY, Checkpoint
from services.infrastructure.log_reader import log_reader, read_committed
from services.infrastructure.topics import partition_count
from services.infrastructure.transactions import OutgoingRecord
from services.infrastructure.vault import SignatureAddress

_EVENTS_PER_FORK = 2_000


class RebuildRefused(Exception):
    """The state cannot be rebuilt now, or from this log; the sentence says why."""


@dataclass(frozen=True, slots=True)
class RecordDifference:
    """A state record that differs from the folded one: ``missing``, ``unexpected``, or ``different``."""

    key: str
    what: str


@dataclass(slots=True)
class RebuildReport:
    """The result for one partition. ``lost_secrets`` are listed in the state but missing on the signatures topic."""

    partition: int
    events: int
    records: int
    differences: list[RecordDifference] = field(default_factory=list)
    lost_secrets: list[str] = field(default_factory=list)


async def rebuild(
    bootstrap_servers: str,
    security: dict[str, Any],
    *,
    write: bool,
    progress: Callable[[int, int], None] = lambda _partition, _events: None,
) -> AsyncIterator[RebuildReport]:
    """Rebuilds one partition after the other, and with ``write`` corrects what differs, fenced as its owner.

    Raises `RebuildRefused`. ``progress`` is called with (partition, events so far).
    """
    existing = await _idle_partitions(bootstrap_servers, security)
    growth = await read_partitions(bootstrap_servers=bootstrap_servers, **security)
    if (unfinished := growth.unfinished) is not None:
        raise RebuildRefused(
            f"The partitions grow from {unfinished.before} to {unfinished.to}; finish that first: `switchboard topics "
            f"grow --partitions {unfinished.to}`."
        )
    partitions = growth.count(existing)
    for partition in range(partitions):
        async with fenced_producer(bootstrap_servers, security, partition, partitions) as producer:
            state = await _present_state(bootstrap_servers, security, partition)
            older = growth.ancestors(topics.EVENTS.name, partition)
            async with log_reader(bootstrap_servers, security) as reader:
                folded, events = await _fold_events(reader, partition, partitions, older, progress)
            report = RebuildReport(partition, events, len(folded.records), lost_secrets=_lost_secrets(folded, state))
            if events and state.checkpoint == Checkpoint():
                raise RebuildRefused(
                    f"Partition {partition} has {events:,} events but no checkpoint, so nobody can say which commands "
                    "are decided already; bring channel-state back from a backup first."
                )
            corrections = _corrections(folded, state, report)
            if write and corrections:
                name = topics.CHANNEL_STATE.name
                records = [OutgoingRecord(name, partition, key, value) for key, value in corrections.items()]
                await append_in_parts(producer, records)
            yield report


async def _idle_partitions(bootstrap_servers: str, security: dict[str, Any]) -> int:
    """The number of partitions. Raises `RebuildRefused` while a decider is in the group."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, **security)
    await admin.start()
    try:
        for answer in await admin.describe_consumer_groups([GROUP]):
            for description in answer.groups:
                _, _, status, *_, members = description[:6]
                if status not in ("Empty", "Dead") or members:
                    raise RebuildRefused(
                        f"A decider is running (group {GROUP} is {status}); stop every decider first: a rebuild "
                        "would take over its partitions."
                    )
    finally:
        await admin.close()
    partitions = await partition_count(bootstrap_servers, topics.EVENTS.name, security)
    if not partitions:
        raise RebuildRefused(f"There is no topic {topics.EVENTS.name}; `switchboard topics apply` makes it.")
    return partitions


async def _present_state(bootstrap_servers: str, security: dict[str, Any], partition: int) -> PartitionState:
    try:
        return await restore(bootstrap_servers, security, partition)
    except ValueError:
        raise RebuildRefused(
            f"The checkpoint of partition {partition} cannot be read, so nobody can say which commands are decided "
            "already; bring channel-state back from a backup first."
        ) from None


async def _fold_events(
    reader: AIOKafkaConsumer,
    partition: int,
    partitions: int,
    older: Sequence[Parent],
    progress: Callable[[int, int], None],
) -> tuple[PartitionState, int]:
    """The state that the events of the partition's channels fold to, and the number of its own events.

    ``older`` is where channels lived before, the latest first."""
    state, count = PartitionState(), 0
    for source, cut in (*reversed(older), Parent(partition, sys.maxsize)):
        state.checkpoint, count = Checkpoint(), 0
        async for records in read_committed(reader, topics.EVENTS.name, source, at_once=_EVENTS_PER_FORK, end=cut):
            fork = Fork(state)
            for record in records:
                _apply(fork, record, lambda channel: partition_of(channel, partitions) == partition)
            count += len(records)
            fork.checkpoint_at(0)
            state.adopt(fork, 0, 0)
            progress(partition, count)
    return state, count


def _apply(fork: Fork, record: ConsumerRecord, is_at_home: Callable[[str], bool] = lambda _: True) -> None:
    try:
        envelope = EventEnvelope.model_validate_json(record.value or b"")
        event: Any = envelope.body()
    except ValidationError:
        raise RebuildRefused(
            f"The event at {_location(record)} cannot be read; `switchboard audit verify` says more."
        ) from None
    if event is None:
        raise RebuildRefused(
            f"The event at {_location(record)} is a {envelope.type}, which this release does not know."
        )
    if envelope.partitionsequence != fork.partitionsequence + 1:
        raise RebuildRefused(
            f"The event at {_location(record)} has partitionsequence {envelope.partitionsequence} where "
            f"{fork.partitionsequence + 1} is next: the log has a gap, and no state can be folded from it."
        )
    fork.partitionsequence = envelope.partitionsequence
    channel = envelope.subject
    if not is_at_home(channel):
        return
    before = fork.channel(channel)
    version, head = (before.channel.version, before.channel.head) if before.channel else (0, GENESIS)
    if (envelope.sequence, envelope.previoushash) != (version + 1, head):
        raise RebuildRefused(
            f"The event at {_location(record)} does not follow the one before it on channel {channel}: the log was "
            "changed, and `switchboard audit verify` says where."
        )
    metadata = EventMetadata(envelope.sequence, unix_milliseconds(envelope.time), sha256(record.value).hexdigest())
    try:
        fork.channels[channel] = evolve(before, event, envelope.accountid, metadata)
    except ImpossibleHistory as error:
        raise RebuildRefused(
            f"The event at {_location(record)}, a {envelope.type}, cannot have happened on channel {channel}: {error}. "
            "No state can be folded from this log."
        ) from None


def _location(record: ConsumerRecord) -> str:
    return f"{record.topic}/{record.partition}/{record.offset}"


def _corrections(folded: PartitionState, state: PartitionState, report: RebuildReport) -> dict[bytes, bytes | None]:
    """The records that turn the present state into the folded one; each difference is added to ``report``."""
    corrections: dict[bytes, bytes | None] = {}
    for key, value in folded.records.items():
        present = state.records.get(key)
        if present is None or not _is_equal(key, present, value):
            report.differences.append(RecordDifference(key.decode(), "missing" if present is None else "different"))
            corrections[key] = value
    for key in state.records.keys() - folded.records.keys():
        report.differences.append(RecordDifference(key.decode(errors="replace"), "unexpected"))
        corrections[key] = None
    if state.checkpoint.partitionsequence != folded.checkpoint.partitionsequence:
        report.differences.append(RecordDifference(CHECKPOINT_KEY.decode(), "different"))
        update = {"partitionsequence": folded.checkpoint.partitionsequence}
        corrections[CHECKPOINT_KEY] = to_json(state.checkpoint.model_copy(update=update))
    return corrections


def _is_equal(key: bytes, present: bytes, folded: bytes) -> bool:
    """Whether both decode to the same; the present one may be in an older format."""
    record_format = BUSINESS_SYSTEM if b"/" in key else CHANNEL
    try:
        return present == folded or record_format.decode(present) == record_format.decode(folded)
    except ValueError:  # unreadable, or of a newer release
        return False


def _lost_secrets(folded: PartitionState, state: PartitionState) -> list[str]:
    """Current and drafted signatures without a secret. A secret cannot be restored; a refresh replaces it."""
    addresses = [address for key, value in folded.records.items() for address in _lasting_secrets(key, value)]
    return [key.decode() for address in addresses if (key := address.record_key()) not in state.signatures]


def _lasting_secrets(key: bytes, value: bytes) -> list[SignatureAddress]:
    channel, _, system = key.decode().partition("/")
    if not system:
        return [SignatureAddress(channel, draft.system, draft.key_id) for draft in CHANNEL.decode(value).drafts]
    signatures = BUSINESS_SYSTEM.decode(value).signatures
    return [SignatureAddress(channel, system, current.key_id) for current in signatures if current.valid_until is None]

"""`switchboard state rebuild`: folds the decider's state anew from the log of events, offline.

The state records are a cache of the log; this is what proves it, and what mends it. The checkpoint's place among the
commands is taken as it is, because no event says which rejected commands came after it, and secrets cannot be folded,
because no event holds one: those that are missing are named.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from aiokafka import ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient
from pydantic import ValidationError
from pydantic_core import to_json

from contracts import topics
from contracts.envelope import GENESIS, EventEnvelope
from contracts.message import milliseconds_of
from services.decider.fence import abort_leftovers, transactional_id
from services.decider.partition_state import CHECKPOINT_KEY, Checkpoint, Fork, PartitionState
from services.decider.restore import committed, log_reader, restore
from services.decider.service import GROUP
from services.domain.decision import Mark
from services.domain.evolve import evolve
from services.domain.records import BUSINESS_SYSTEM, CHANNEL
from services.infrastructure.topics import partitions_of
from services.infrastructure.transactions import OutgoingRecord, TransactionalProducer
from services.infrastructure.vault import SignatureAddress

_EVENTS_A_FORK = 2_000
_RECORDS_A_TRANSACTION = 2_000


class RebuildRefused(Exception):
    """The state cannot be rebuilt now, or from this log; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A state record that is not what the log says: ``missing``, ``unexpected``, or ``different``."""

    key: str
    what: str


@dataclass(slots=True)
class Rebuilt:
    """What was found on one partition. ``lost_secrets`` are listed in the state but not on the signatures topic."""

    partition: int
    events: int
    records: int
    differences: list[Difference] = field(default_factory=list)
    lost_secrets: list[str] = field(default_factory=list)


async def rebuild(
    bootstrap_servers: str,
    security: dict[str, Any],
    *,
    write: bool,
    progress: Callable[[int, int], None] = lambda _partition, _events: None,
) -> AsyncIterator[Rebuilt]:
    """Partition after partition; with ``write``, what differs is corrected, as its owner would.

    Raises `RebuildRefused`. ``progress`` is told (partition, events so far).
    """
    partitions = await _idle_partitions(bootstrap_servers, security)
    for partition in range(partitions):
        async with _owning(bootstrap_servers, security, partition, partitions) as producer:
            state = await _as_it_is(bootstrap_servers, security, partition)
            folded, events = await _folded(bootstrap_servers, security, partition, progress)
            found = Rebuilt(partition, events, len(folded.records), lost_secrets=_lost_secrets(folded, state))
            if events and state.checkpoint == Checkpoint():
                raise RebuildRefused(
                    f"Partition {partition} has {events:,} events but no checkpoint, so nobody can say which commands "
                    "are decided already; bring channel-state back from a backup first."
                )
            corrections = _corrections(folded, state, found)
            if write and corrections:
                await _write(producer, partition, list(corrections.items()))
            yield found


async def _idle_partitions(bootstrap_servers: str, security: dict[str, Any]) -> int:
    """How many partitions there are. Raises `RebuildRefused` while a decider is in the group."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, **security)
    await admin.start()
    try:
        for answer in await admin.describe_consumer_groups([GROUP]):
            for description in answer.groups:
                _, _, status, *_, members = description[:6]
                if status not in ("Empty", "Dead") or members:
                    raise RebuildRefused(
                        f"A decider is running (group {GROUP} is {status}); stop every one first: rebuilding "
                        "would take its partitions away under it."
                    )
    finally:
        await admin.close()
    partitions = await partitions_of(bootstrap_servers, topics.EVENTS.name, security)
    if not partitions:
        raise RebuildRefused(f"There is no topic {topics.EVENTS.name}; `switchboard topics apply` makes it.")
    return partitions


@asynccontextmanager
async def _owning(
    bootstrap_servers: str, security: dict[str, Any], partition: int, partitions: int
) -> AsyncIterator[TransactionalProducer]:
    """The partition, taken over as a decider takes it, which fences any that was overlooked."""
    producer = TransactionalProducer(bootstrap_servers, transactional_id(partition), security)
    try:
        await producer.start()
        await abort_leftovers(producer, partition, partitions, _now())
        yield producer
    finally:
        await producer.discard()


async def _as_it_is(bootstrap_servers: str, security: dict[str, Any], partition: int) -> PartitionState:
    try:
        return await restore(bootstrap_servers, security, partition)
    except ValueError:
        raise RebuildRefused(
            f"The checkpoint of partition {partition} cannot be read, so nobody can say which commands are decided "
            "already; bring channel-state back from a backup first."
        ) from None


async def _folded(
    bootstrap_servers: str, security: dict[str, Any], partition: int, progress: Callable[[int, int], None]
) -> tuple[PartitionState, int]:
    """The state that the partition's events lead to, and how many they are."""
    state, count = PartitionState(), 0
    async with log_reader(bootstrap_servers, security) as reader:
        async for records in committed(reader, topics.EVENTS.name, partition, at_once=_EVENTS_A_FORK):
            fork = Fork(state)
            for record in records:
                _apply(fork, record)
            count += len(records)
            fork.checkpoint_at(0)
            state.adopt(fork, 0)
            progress(partition, count)
    return state, count


def _apply(fork: Fork, record: ConsumerRecord) -> None:
    try:
        envelope = EventEnvelope.model_validate_json(record.value or b"")
        event: Any = envelope.body()
    except ValidationError:
        raise RebuildRefused(
            f"The event at {_place(record)} cannot be read; `switchboard audit verify` says more."
        ) from None
    if event is None:
        raise RebuildRefused(f"The event at {_place(record)} is a {envelope.type}, which this release does not know.")
    if envelope.partitionsequence != fork.partitionsequence + 1:
        raise RebuildRefused(
            f"The event at {_place(record)} has partitionsequence {envelope.partitionsequence} where "
            f"{fork.partitionsequence + 1} is next: the log has a gap, and no state can be folded from it."
        )
    fork.partitionsequence = envelope.partitionsequence
    channel = envelope.subject
    before = fork.channel(channel)
    version, head = (before.channel.version, before.channel.head) if before.channel else (0, GENESIS)
    if (envelope.sequence, envelope.previoushash) != (version + 1, head):
        raise RebuildRefused(
            f"The event at {_place(record)} does not follow the one before it on channel {channel}: the log was "
            "changed, and `switchboard audit verify` says where."
        )
    mark = Mark(envelope.sequence, milliseconds_of(envelope.time), sha256(record.value).hexdigest())
    try:
        fork.channels[channel] = evolve(before, event, envelope.accountid, mark)
    except LookupError:
        raise RebuildRefused(
            f"The event at {_place(record)}, a {envelope.type}, cannot have happened after those before it on channel "
            f"{channel}; no state can be folded from it."
        ) from None


def _place(record: ConsumerRecord) -> str:
    return f"{record.topic}/{record.partition}/{record.offset}"


def _corrections(folded: PartitionState, state: PartitionState, found: Rebuilt) -> dict[bytes, bytes | None]:
    """What to write so that the state is what was folded; each difference is noted in ``found``."""
    corrections: dict[bytes, bytes | None] = {}
    for key, value in folded.records.items():
        there = state.records.get(key)
        if there is None or not _same(key, there, value):
            found.differences.append(Difference(key.decode(), "missing" if there is None else "different"))
            corrections[key] = value
    for key in state.records.keys() - folded.records.keys():
        found.differences.append(Difference(key.decode(errors="replace"), "unexpected"))
        corrections[key] = None
    if state.checkpoint.partitionsequence != folded.checkpoint.partitionsequence:
        found.differences.append(Difference(CHECKPOINT_KEY.decode(), "different"))
        counted = {"partitionsequence": folded.checkpoint.partitionsequence}
        corrections[CHECKPOINT_KEY] = to_json(state.checkpoint.model_copy(update=counted))
    return corrections


def _same(key: bytes, one: bytes, other: bytes) -> bool:
    """Equal in what they say; an older format of the same says the same."""
    form = BUSINESS_SYSTEM if b"/" in key else CHANNEL
    try:
        return one == other or form.decode(one) == form.decode(other)
    except ValueError:  # unreadable, or of a newer release
        return False


def _lost_secrets(folded: PartitionState, state: PartitionState) -> list[str]:
    """Current and drafted signatures whose secret is not there. Nothing brings one back; a refresh replaces it."""
    wanted = [address for key, value in folded.records.items() for address in _lasting_secrets(key, value)]
    return [key.decode() for address in wanted if (key := address.record_key()) not in state.signatures]


def _lasting_secrets(key: bytes, value: bytes) -> list[SignatureAddress]:
    channel, _, system = key.decode().partition("/")
    if not system:
        return [SignatureAddress(channel, draft.system, draft.key_id) for draft in CHANNEL.decode(value).drafts]
    signatures = BUSINESS_SYSTEM.decode(value).signatures
    return [SignatureAddress(channel, system, one.key_id) for one in signatures if one.valid_until is None]


async def _write(producer: TransactionalProducer, partition: int, records: list[tuple[bytes, bytes | None]]) -> None:
    """In transactions of a bounded size: stopped half way, the next rebuild goes on with what is left."""
    for at in range(0, len(records), _RECORDS_A_TRANSACTION):
        await producer.begin()
        part = records[at : at + _RECORDS_A_TRANSACTION]
        await producer.append(
            [OutgoingRecord(topics.CHANNEL_STATE.name, partition, key, value) for key, value in part], _now()
        )
        await producer.commit()


def _now() -> int:
    return time.time_ns() // 1_000_000

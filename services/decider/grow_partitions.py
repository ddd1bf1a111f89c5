"""`switchboard topics grow`: more partitions under load, a growth by a whole multiple.

Events are never moved: their hashes cover where they are. What moves is what the deciders keep of the channels whose
home is a new partition (see `contracts.partition_growth`).

1. Write that a growth is begun. From now on a decider that starts waits.
2. Add the partitions.
3. Take each older partition's transactional id, which fences its decider. Now nobody decides.
4. Copy the state, the secrets and the idempotency window of the channels that move to their new partition, with a
   checkpoint; only then delete state and secrets from the older one.
5. Write the cuts, and that the growth is finished. The deciders go on.

Each step can be done again: killed at any point, the same command goes on. Two at once do no harm: the later one fences
the earlier, which can then neither finish the growth nor, once it is finished, change a partition.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.errors import KafkaError
from pydantic_core import to_json

from contracts import topics
from contracts.kafka.partition_growth import read_partitions
from contracts.partition_growth import PartitionGrowth
from contracts.partitioner import partition_of
from services.decider.fencing import append_in_parts, fenced_producer
from services.decider.partition_state import PartitionState
from services.decider.restore import restore
from services.domain.state_topic import CHECKPOINT_KEY, RESERVED_PREFIX, Checkpoint
from services.infrastructure.log_end import last_offsets
from services.infrastructure.log_reader import log_reader
from services.infrastructure.transactions import OutgoingRecord, TransactionalProducer

_ATTEMPTS = 20
"""A decider that started before it could know of the growth may take its id back, once."""
_TRANSACTIONAL_ID = "switchboard.partition-growth"
_OF_DECIDERS = (topics.EVENTS, topics.OUTCOMES, topics.CHANNEL_STATE, topics.SIGNATURES)


class GrowRefused(Exception):
    """The partitions cannot grow so; the sentence says why."""


@dataclass(frozen=True, slots=True)
class GrowReport:
    """``channels`` move; ``seconds`` is how long nobody decided, 0 where nothing was changed."""

    growth: PartitionGrowth
    channels: int
    seconds: float = 0.0


async def grow(
    bootstrap_servers: str,
    security: dict[str, Any],
    to: int,
    *,
    check: bool = False,
    on_step: Callable[[str], None] = lambda _: None,
) -> GrowReport:
    """Grows the topics to ``to`` partitions each, or goes on with an interrupted growth; with ``check`` only counts the
    channels that would move.

    Raises `GrowRefused` and KafkaError. ``on_step`` is called with the name of each completed step, for the fault
    suite: ``begun``, ``created``, and ``fenced``, ``copied``, ``emptied`` once per partition, ``cut``, ``finished``.
    """
    growing = _Growing(bootstrap_servers, security, on_step)
    if check:
        return await growing.look(to)
    producer = TransactionalProducer(bootstrap_servers, _TRANSACTIONAL_ID, security)
    try:
        await producer.start()
        return await growing.grow(to, producer)
    finally:
        await producer.discard()


async def finish_growth(bootstrap_servers: str, security: dict[str, Any]) -> GrowReport | None:
    """Goes on with an interrupted growth; None where there is none. Raises as `grow` does."""
    unfinished = (await read_partitions(bootstrap_servers=bootstrap_servers, **security)).unfinished
    return None if unfinished is None else await grow(bootstrap_servers, security, unfinished.to)


class _Growing:
    def __init__(self, bootstrap_servers: str, security: dict[str, Any], on_step: Callable[[str], None]) -> None:
        self._bootstrap_servers, self._security = bootstrap_servers, security
        self._options = {"bootstrap_servers": bootstrap_servers, **security}
        self._on_step = on_step

    async def look(self, to: int) -> GrowReport:
        growth = await self._plan(to)
        states = [await restore(self._bootstrap_servers, self._security, one) for one in range(growth.before)]
        return GrowReport(growth, sum(len(_moving(state, growth)) for state in states))

    async def grow(self, to: int, producer: TransactionalProducer) -> GrowReport:
        growth = await self._plan(to)
        await self._write(producer, growth)
        self._on_step("begun")
        await self._create(growth)
        self._on_step("created")
        fenced_at = time.monotonic()
        moved = await asyncio.gather(*(self._move_from(parent, growth) for parent in range(growth.before)))
        finished = growth.model_copy(update={"state": "finished", "cuts": await self._cuts(growth)})
        self._on_step("cut")
        await self._write(producer, finished)
        self._on_step("finished")
        return GrowReport(finished, sum(moved), time.monotonic() - fenced_at)

    async def _plan(self, to: int) -> PartitionGrowth:
        """The growth that is to be made, or to be gone on with. Raises `GrowRefused`."""
        growths = await read_partitions(**self._options)
        existing = await self._existing()
        if missing := [
            topic.name for topic in (*topics.GROWING, topics.PARTITION_GROWTH) if topic.name not in existing
        ]:
            raise GrowRefused(f"There is no topic {missing[0]}; `switchboard topics apply` makes it.")
        if (unfinished := growths.unfinished) is not None:
            if unfinished.to != to:
                raise GrowRefused(
                    f"The partitions grow from {unfinished.before} to {unfinished.to} already; finish that first: "
                    f"`switchboard topics grow --partitions {unfinished.to}`."
                )
            return unfinished
        before = growths.count(existing[topics.COMMANDS.name])
        for topic in topics.GROWING:
            if existing[topic.name] != before:
                raise GrowRefused(f"{topic.name} has {existing[topic.name]} partitions, not {before} as the others.")
        if to == before:
            raise GrowRefused(f"There are {before} partitions already.")
        if to <= before or to % before:
            raise GrowRefused(
                f"There are {before} partitions; they grow to a multiple of that, such as {2 * before}, so that the "
                "channels of each new partition come from one older partition."
            )
        return PartitionGrowth(before=before, to=to, state="begun")

    async def _existing(self) -> dict[str, int]:
        """How many partitions each topic has that has a leader for all of them."""
        admin = AIOKafkaAdminClient(**self._options)
        await admin.start()
        try:
            return {
                topic["topic"]: len(topic["partitions"])
                for topic in await admin.describe_topics()
                if all(partition["leader"] >= 0 for partition in topic["partitions"])
            }
        finally:
            await admin.close()

    async def _write(self, producer: TransactionalProducer, growth: PartitionGrowth) -> None:
        value = growth.model_dump_json().encode()
        await append_in_parts(producer, [OutgoingRecord(topics.PARTITION_GROWTH.name, 0, growth.key, value)])

    async def _create(self, growth: PartitionGrowth) -> None:
        existing = await self._existing()
        admin = AIOKafkaAdminClient(**self._options)
        await admin.start()
        try:
            for topic in topics.GROWING:
                if existing.get(topic.name) == growth.before:
                    await admin.create_partitions({topic.name: NewPartitions(growth.to)})
        finally:
            await admin.close()
        wanted = {(topic.name, growth.to) for topic in topics.GROWING}
        while not wanted <= (await self._existing()).items():  # noqa: ASYNC110 -- the broker tells nobody
            await asyncio.sleep(0.1)

    async def _move_from(self, parent: int, growth: PartitionGrowth) -> int:
        """Moves the channels of one older partition; returns how many."""
        for attempt in range(_ATTEMPTS):
            try:
                return await self._try_to_move_from(parent, growth)
            except KafkaError:
                if attempt + 1 == _ATTEMPTS:
                    raise
            await asyncio.sleep(0.2)
        raise AssertionError

    async def _try_to_move_from(self, parent: int, growth: PartitionGrowth) -> int:
        servers, security, children = self._bootstrap_servers, self._security, _children(parent, growth)
        async with AsyncExitStack() as stack:
            producers = {
                one: await stack.enter_async_context(fenced_producer(servers, security, one, growth.to))
                for one in (parent, *children)
            }
            # Only now: a growth that another process has finished meanwhile cannot be seen and then be overwritten.
            if (await read_partitions(**self._options)).unfinished != growth:
                raise GrowRefused("Another `switchboard topics grow` took this one over.")
            self._on_step("fenced")
            state = await restore(servers, security, parent)
            moving = _moving(state, growth)
            for child in children:
                await append_in_parts(producers[child], _copied(state, moving, parent, child))
            self._on_step("copied")
            await append_in_parts(producers[parent], _deleted(state, moving, parent))
            self._on_step("emptied")
            return len(moving)

    async def _cuts(self, growth: PartitionGrowth) -> dict[str, tuple[int, ...]]:
        older = [TopicPartition(topic.name, one) for topic in topics.GROWING for one in range(growth.before)]
        await self._until_ended([source for source in older if source.topic in {one.name for one in _OF_DECIDERS}])
        async with log_reader(self._bootstrap_servers, self._security) as reader:
            first, ends = await reader.beginning_offsets(older), await reader.end_offsets(older)
            last = await last_offsets(reader, {source: (first[source], ends[source]) for source in older})
        return {
            topic.name: tuple(last.get(one, -1) + 1 for one in older if one.topic == topic.name)
            for topic in topics.GROWING
        }

    async def _until_ended(self, sources: list[TopicPartition]) -> None:
        """Waits for the markers of the last transactions: a request to commit is answered before they are written."""
        async with (
            AIOKafkaConsumer(isolation_level="read_uncommitted", **self._options) as everything,
            AIOKafkaConsumer(isolation_level="read_committed", **self._options) as committed,
        ):
            while await everything.end_offsets(sources) != await committed.end_offsets(sources):  # noqa: ASYNC110
                await asyncio.sleep(0.02)


def _children(parent: int, growth: PartitionGrowth) -> list[int]:
    return [one for one in range(growth.before, growth.to) if one % growth.before == parent]


def _channel(key: bytes) -> str:
    """Of a key of `switchboard.channel-state` or `switchboard.signatures`."""
    return key.decode().partition("/")[0]


def _moving(state: PartitionState, growth: PartitionGrowth) -> dict[str, int]:
    """The new partition of each channel that gets one."""
    channels = {_channel(key) for key in (*state.records, *state.signatures) if not key.startswith(RESERVED_PREFIX)}
    homes = {channel: partition_of(channel, growth.to) for channel in channels}
    return {channel: home for channel, home in homes.items() if home >= growth.before}


def _copied(state: PartitionState, moving: dict[str, int], parent: int, child: int) -> list[OutgoingRecord]:
    """Everything with which the child's decider begins; the checkpoint is last."""
    reading = parent if state.checkpoint.reading is None else state.checkpoint.reading
    checkpoint = Checkpoint(next_offset=state.checkpoint.next_offset, reading=reading)
    window = state.idempotency_window.inheritance(parent)
    return [
        OutgoingRecord(topic.name, child, key, value)
        for topic, table in ((topics.SIGNATURES, state.signatures), (topics.CHANNEL_STATE, state.records))
        for key, value in table.items()
        if moving.get(_channel(key)) == child
    ] + [
        OutgoingRecord(topics.CHANNEL_STATE.name, child, key, value)
        for key, value in (*window.items(), (CHECKPOINT_KEY, to_json(checkpoint)))
    ]


def _deleted(state: PartitionState, moving: dict[str, int], parent: int) -> list[OutgoingRecord]:
    return [
        OutgoingRecord(topic.name, parent, key, None)
        for topic, table in ((topics.CHANNEL_STATE, state.records), (topics.SIGNATURES, state.signatures))
        for key in table
        if _channel(key) in moving
    ]

"""The decider: shares the partitions of `switchboard.commands` with its copies, and owns each of its share.

The consumer group says who should own what, and nothing more: its offsets are for lag tools, its records are never
read. Each owner reads its own partition, from its own checkpoint.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from contracts import topics
from services.decider.batch import Deciding
from services.decider.owner import Connection, PartitionOwner
from services.decider.upkeep import SEGMENT_MS
from services.domain.address import Allowances
from services.infrastructure.kafka import GROUP_METADATA_MAX_AGE_MS, security_options
from services.infrastructure.settings import Settings, SettingsError
from services.infrastructure.topics import partitions_of, settings_of
from services.infrastructure.vault import KeyRing

log = logging.getLogger(__name__)

GROUP = "switchboard.decider"
_OFFSETS_EVERY_S = 5.0
_GARBAGE_THRESHOLDS = (50_000, 20, 100)
"""Each command leaves objects that stay, and hardly any in a cycle: with Python's own thresholds, a fifth of the time
would go into looking for those."""


class Decider(ConsumerRebalanceListener):  # type: ignore[misc]
    """The owners of this process, following what the group assigns to it.

    aiokafka revokes everything at each rebalance: revoked is paused. A partition that comes back keeps its owner with
    producer and state (the fence tells if anybody had it meanwhile); one that does not is let go.
    """

    def __init__(self, own: Callable[[int], PartitionOwner]) -> None:
        self._own = own
        self._letting_go: set[asyncio.Task[None]] = set()
        self.owners: dict[int, PartitionOwner] = {}
        self.assigned = asyncio.Event()

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        for partition in revoked:
            if (owner := self.owners.get(partition.partition)) is not None:
                owner.pause()

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        mine = {partition.partition for partition in assigned}
        for partition in self.owners.keys() - mine:
            task = asyncio.create_task(self.owners.pop(partition).stop())
            self._letting_go.add(task)
            task.add_done_callback(self._letting_go.discard)
        for partition in mine:
            if partition in self.owners:
                self.owners[partition].resume()
            else:
                self.owners[partition] = self._own(partition)
        self.assigned.set()
        log.info("deciding partitions %s", sorted(mine))

    async def serving(self) -> None:
        """Returns when every partition of the present assignment is restored; meanwhile it may become another one."""
        await self.assigned.wait()
        while not all(owner.serving.is_set() for owner in self.owners.values()):  # noqa: ASYNC110 -- one of several
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        await asyncio.gather(*(owner.stop() for owner in self.owners.values()), *self._letting_go)


async def run(
    settings: Settings,
    *,
    ready: Callable[[], None],
    on_step: Callable[[str], None] = lambda _: None,
) -> None:
    """Decides until cancelled. Needs Kafka alone; outlives it. Raises `SettingsError`."""
    gc.set_threshold(*_GARBAGE_THRESHOLDS)
    keyring = KeyRing.parse(settings.keyring)
    try:
        allowances = Allowances.parse(settings.invoker_allow, never=settings.own_addresses())
    except ValueError as error:
        raise SettingsError(f"SWITCHBOARD_INVOKER_ALLOW cannot be used: {error}") from None
    if settings.kafka_bootstrap_servers is None:
        raise SettingsError("SWITCHBOARD_KAFKA_BOOTSTRAP_SERVERS is not set; it must be host:port of the broker.")
    connection = Connection(settings.kafka_bootstrap_servers, security_options())
    group, partitions = await _connected(connection)
    try:
        segment_ms = await _segment_ms(connection)

        def own(partition: int) -> PartitionOwner:
            deciding = Deciding(partition, partitions, keyring, allowances)
            return PartitionOwner(connection, deciding, on_step, segment_ms)

        decider = Decider(own)
        try:
            group.subscribe([topics.COMMANDS.name], listener=decider)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_stay_in_group(group, decider))
                await decider.serving()
                ready()
        finally:
            await decider.stop()
    finally:
        await group.stop()


async def _connected(connection: Connection) -> tuple[Any, int]:
    """A consumer for the group, and how many partitions there are, however long the broker takes to be there."""
    waited = False
    while True:
        group = AIOKafkaConsumer(
            bootstrap_servers=connection.bootstrap_servers,
            group_id=GROUP,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            metadata_max_age_ms=GROUP_METADATA_MAX_AGE_MS,
            **connection.security,
        )
        try:
            await group.start()
            partitions = await partitions_of(connection.bootstrap_servers, topics.COMMANDS.name, connection.security)
            if partitions:
                return group, partitions
            problem = f"there is no topic {topics.COMMANDS.name}; make the topics with `switchboard topics apply`"
        except (KafkaError, OSError) as error:
            problem = f"the broker at {connection.bootstrap_servers} is not there ({type(error).__name__})"
        await group.stop()
        if not waited:
            log.warning("waiting: %s", problem)
        waited = True
        await asyncio.sleep(1)


async def _segment_ms(connection: Connection) -> Mapping[str, int]:
    """How long segments of the compacted topics stay open on this broker; as we make them where it does not say."""
    try:
        found = await settings_of(connection.bootstrap_servers, SEGMENT_MS, connection.security)
        return {name: int(found[name]["segment.ms"]) for name in SEGMENT_MS}
    except (KafkaError, OSError, LookupError) as error:
        log.warning("the topics' settings cannot be read (%s); taking ours", type(error).__name__)
        return SEGMENT_MS


async def _stay_in_group(group: Any, decider: Decider) -> None:
    """Polls the group's consumer, with every partition paused, and notes offsets for lag tools now and then."""
    loop = asyncio.get_running_loop()
    next_note = loop.time() + _OFFSETS_EVERY_S
    while True:
        group.pause(*(group.assignment() - group.paused()))
        await group.getmany(timeout_ms=500)
        if loop.time() < next_note:
            continue
        next_note = loop.time() + _OFFSETS_EVERY_S
        known = {
            TopicPartition(topics.COMMANDS.name, partition): owner.next_offset
            for partition, owner in decider.owners.items()
            if owner.next_offset is not None
        }
        offsets = {partition: offset for partition, offset in known.items() if partition in group.assignment()}
        with contextlib.suppress(KafkaError):
            if offsets:
                await group.commit(offsets)

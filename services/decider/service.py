"""The decider: shares the partitions of `switchboard.commands` with its copies, and runs one owner per partition.

The consumer group only assigns partitions: its offsets are for lag monitoring, and its records are never read. Each
owner reads its partition from its own checkpoint.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from contracts import topics
from services.decider import metrics
from services.decider.config import DeciderConfig, KafkaConfig
from services.decider.maintenance import SEGMENT_MS
from services.decider.partition_owner import PartitionOwner
from services.domain.url_policy import Allowlist
from services.infrastructure.config import Settings, SettingsError
from services.infrastructure.kafka import GROUP_HEARTBEAT_INTERVAL_MS, GROUP_METADATA_MAX_AGE_MS, security_options
from services.infrastructure.outages import NotReady, retry_during_outage
from services.infrastructure.topics import partition_count, topic_settings
from services.infrastructure.vault import KeyRing
from services.schema_validation.validator import SchemaValidator

log = structlog.stdlib.get_logger(__name__)

GROUP = "switchboard.decider"
_OFFSET_COMMIT_INTERVAL_S = 5.0
_GC_THRESHOLDS = (50_000, 20, 100)
"""Each command leaves long-lived objects, hardly any of them in a reference cycle. With Python's default thresholds,
garbage collection would take a fifth of the time."""


class Decider(ConsumerRebalanceListener):  # type: ignore[misc]
    """The partition owners of this process, according to the group's assignments.

    aiokafka revokes every partition at each rebalance, and the owners pause. An owner whose partition is assigned again
    resumes with its producer and state (if another process had it meanwhile, the producer is fenced); the others stop.
    """

    def __init__(self, start_owner: Callable[[int], PartitionOwner]) -> None:
        self._start_owner = start_owner
        self._stopping: set[asyncio.Task[None]] = set()
        self.owners: dict[int, PartitionOwner] = {}
        self.assigned = asyncio.Event()

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        for tp in revoked:
            if (owner := self.owners.get(tp.partition)) is not None:
                owner.pause()

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        assigned_here = {tp.partition for tp in assigned}
        for partition in self.owners.keys() - assigned_here:
            task = asyncio.create_task(self.owners.pop(partition).stop())
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)
        for partition in assigned_here:
            if partition in self.owners:
                self.owners[partition].resume()
            else:
                self.owners[partition] = self._start_owner(partition)
        self.assigned.set()
        log.info("partitions assigned", partitions=sorted(assigned_here))

    async def serving(self) -> None:
        """Returns when every assigned partition is restored. The assignment may change meanwhile."""
        await self.assigned.wait()
        while not all(owner.serving.is_set() for owner in self.owners.values()):  # noqa: ASYNC110 -- one of several
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        await asyncio.gather(*(owner.stop() for owner in self.owners.values()), *self._stopping)


async def run(
    settings: Settings,
    *,
    ready: Callable[[], None],
    on_step: Callable[[str], None] = lambda _: None,
) -> None:
    """Decides until cancelled. Needs only Kafka, and survives its outages. Raises `SettingsError`."""
    gc.set_threshold(*_GC_THRESHOLDS)
    keyring = KeyRing.parse(settings.keyring)
    try:
        allowlist = Allowlist.parse(settings.invoker_allow, never=settings.own_addresses())
    except ValueError as error:
        raise SettingsError(f"SWITCHBOARD_INVOKER_ALLOW cannot be used: {error}") from None
    if settings.kafka_bootstrap_servers is None:
        raise SettingsError("SWITCHBOARD_KAFKA_BOOTSTRAP_SERVERS is not set; it must be host:port of the broker.")
    kafka = KafkaConfig(settings.kafka_bootstrap_servers, security_options())
    group, partitions = await _connect(kafka)
    try:
        segment_ms = await _segment_ms(kafka)

        def start_owner(partition: int) -> PartitionOwner:
            config = DeciderConfig(partition, partitions, keyring, allowlist, settings.commands_per_account, schemas)
            return PartitionOwner(kafka, config, on_step, segment_ms)

        schemas = SchemaValidator()
        decider = Decider(start_owner)
        metrics.account_shares.read = lambda: [owner.commands_per_account for owner in list(decider.owners.values())]
        try:
            group.subscribe([topics.COMMANDS.name], listener=decider)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_poll_group(group, decider))
                await decider.serving()
                ready()
        finally:
            await decider.stop()
            await schemas.aclose()
    finally:
        await group.stop()


async def _connect(kafka: KafkaConfig) -> tuple[Any, int]:
    """A consumer in the group, and the number of partitions. Waits for the broker."""

    async def connect() -> tuple[Any, int]:
        group = AIOKafkaConsumer(
            bootstrap_servers=kafka.bootstrap_servers,
            group_id=GROUP,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            metadata_max_age_ms=GROUP_METADATA_MAX_AGE_MS,
            heartbeat_interval_ms=GROUP_HEARTBEAT_INTERVAL_MS,
            **kafka.security,
        )
        try:
            await group.start()
            partitions = await partition_count(kafka.bootstrap_servers, topics.COMMANDS.name, kafka.security)
            if not partitions:
                name = topics.COMMANDS.name
                raise NotReady(f"There is no topic {name}; make the topics with `switchboard topics apply`.")
        except BaseException:
            await group.stop()
            raise
        return group, partitions

    return await retry_during_outage(connect, (KafkaError, OSError), f"broker at {kafka.bootstrap_servers}")


async def _segment_ms(kafka: KafkaConfig) -> Mapping[str, int]:
    """``segment.ms`` of the compacted topics on this broker; the defaults of this release where it cannot be read."""
    try:
        found = await topic_settings(kafka.bootstrap_servers, SEGMENT_MS, kafka.security)
        return {name: int(found[name]["segment.ms"]) for name in SEGMENT_MS}
    except (KafkaError, OSError, LookupError) as error:
        log.warning("topic settings cannot be read; using defaults", reason=type(error).__name__)
        return SEGMENT_MS


async def _poll_group(group: Any, decider: Decider) -> None:
    """Polls the group's consumer, with every partition paused, and commits offsets for lag monitoring."""
    loop = asyncio.get_running_loop()
    next_commit = loop.time() + _OFFSET_COMMIT_INTERVAL_S
    while True:
        group.pause(*(group.assignment() - group.paused()))
        await group.getmany(timeout_ms=500)
        if loop.time() < next_commit:
            continue
        next_commit = loop.time() + _OFFSET_COMMIT_INTERVAL_S
        offsets = {
            tp: owner.next_offset
            for partition, owner in decider.owners.items()
            if owner.next_offset is not None
            and (tp := TopicPartition(topics.COMMANDS.name, partition)) in group.assignment()
        }
        with contextlib.suppress(KafkaError):
            if offsets:
                await group.commit(offsets)

"""The testbed of a cluster round: three brokers behind proxies, and deciders that log in by TLS."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import CompactArray, CompactString, Int16, Int32, Int64, Schema, TaggedFields

from contracts import topics
from services.infrastructure.embedded.cluster import EmbeddedCluster, Ports
from services.infrastructure.embedded.process import free_port
from services.infrastructure.topics import apply_topics
from tests.faults.cluster.links import Links
from tests.faults.cluster.replicas import describe_topics, in_sync
from tests.faults.decider.checker import ReportedOutcome
from tests.faults.decider.log_reader import Log, Writer, batches_of, writers_of
from tests.faults.decider.testbed import Testbed

_NUMBERS = (1, 2, 3)
_NEVER_COMPACTED = (topics.COMMANDS, topics.EVENTS, topics.OUTCOMES, topics.DEAD_LETTERS)


class ClusterTestbed(Testbed):
    """A context manager; ``partitions`` is the number of partitions of every topic."""

    commands_per_channel = 30

    def __init__(self, directory: Path, partitions: int = 3) -> None:
        super().__init__(directory, partitions)
        self.more_settings = {"min.insync.replicas": "2"}
        self._directory = directory / "cluster"
        self.links = Links(self._pid_of)
        self.cluster: EmbeddedCluster

    def _pid_of(self, number: int) -> int | None:
        return self.cluster.brokers[number].pid if number in self.running() else None

    def __enter__(self) -> ClusterTestbed:
        self._directory.parent.mkdir(parents=True, exist_ok=True)
        self.links.__enter__()
        listening = {number: Ports(free_port(), free_port(), free_port()) for number in _NUMBERS}
        advertised = {
            number: Ports(
                self.links.to(number, ports.clients),
                self.links.to(number, ports.controllers),
                self.links.to(number, ports.open or 0),
            )
            for number, ports in listening.items()
        }
        self.open_ports = tuple(ports.open or 0 for ports in advertised.values())
        self.cluster = EmbeddedCluster(self._directory, listening=listening, advertised=advertised)
        self.cluster.start()
        asyncio.run(apply_topics(self.bootstrap_servers, self.partitions, {}))
        return self

    def __exit__(self, *_: object) -> None:
        self.end_deciders()
        self.links.heal()
        for number in self.running():
            self.cluster.brokers[number].kill()
        self.links.__exit__()

    @property
    def bootstrap_servers(self) -> str:
        return self.cluster.open_bootstrap_servers

    @property
    def broker_ports(self) -> tuple[int, ...]:
        return self.open_ports

    def login(self) -> dict[str, str]:
        return self.cluster.environment("decider")

    def running(self) -> list[int]:
        """The brokers that were not killed."""
        return [number for number, broker in self.cluster.brokers.items() if broker.is_running]

    def signal(self, number: int, name: signal.Signals) -> None:
        os.kill(self.cluster.brokers[number].pid, name)

    async def kill(self, *numbers: int) -> None:
        await asyncio.gather(*(asyncio.to_thread(self.cluster.brokers[number].kill) for number in numbers))

    async def start_brokers(self, *numbers: int) -> None:
        await asyncio.gather(*(asyncio.to_thread(self.cluster.brokers[number].start) for number in numbers))

    async def leader(self, topic: topics.Topic, partition: int) -> int:
        described = await describe_topics(self.bootstrap_servers, [topic.name])
        (found,) = (one["leader"] for one in described[0]["partitions"] if one["partition"] == partition)
        return int(found) if found in _NUMBERS else 1

    async def controller(self) -> int:
        """The leader of the controllers' quorum."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap_servers)
        await admin.start()
        try:
            answer = await admin._send_request(_DescribeQuorum())
        finally:
            await admin.close()
        return int(answer.topics[0][1][0][2])

    async def in_sync(self) -> bool:
        return await in_sync(self.bootstrap_servers)

    async def check(self, reported: list[ReportedOutcome], published: list[bytes]) -> tuple[Log, list[str]]:
        """The whole log, and the violations found in it; replicas that differ are some."""
        if not await self.in_sync():
            return Log(self.partitions), ["the replicas do not come back in sync"]
        log, found = await super().check(reported, published)
        return log, found + list(self._replicas_that_differ())

    def writers(self, tp: TopicPartition) -> list[tuple[int, Writer]]:
        return writers_of(self.cluster.brokers[1].files, tp)

    def _replicas_that_differ(self) -> Sequence[str]:
        """The replicas of a partition hold the same batches, byte for byte, once all are in sync."""
        found = []
        for topic in _NEVER_COMPACTED:
            for partition in self.all_partitions:
                tp = TopicPartition(topic.name, partition)
                stored: dict[tuple[Any, ...], list[int]] = defaultdict(list)
                for number, broker in self.cluster.brokers.items():
                    batches = tuple((one.base_offset, one.producer_id, one.crc) for one in batches_of(broker.files, tp))
                    stored[batches].append(number)
                if len(stored) != 1:
                    found.append(f"the replicas of {topic.name}/{partition} differ: {sorted(stored.values())}")
        return found


class _DescribeQuorumResponse(Response):  # type: ignore[misc]
    API_KEY = 55
    API_VERSION = 0
    _REPLICAS = CompactArray(("replica_id", Int32), ("log_end_offset", Int64), ("tags", TaggedFields))
    SCHEMA = Schema(
        ("error_code", Int16),
        (
            "topics",
            CompactArray(
                ("topic_name", CompactString("utf-8")),
                (
                    "partitions",
                    CompactArray(
                        *(("partition_index", Int32), ("error_code", Int16), ("leader_id", Int32)),
                        *(("leader_epoch", Int32), ("high_watermark", Int64)),
                        *(("current_voters", _REPLICAS), ("observers", _REPLICAS), ("tags", TaggedFields)),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _DescribeQuorumRequest(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 55
    API_VERSION = 0
    RESPONSE_TYPE = _DescribeQuorumResponse
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(
                ("topic_name", CompactString("utf-8")),
                ("partitions", CompactArray(("partition_index", Int32), ("tags", TaggedFields))),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _DescribeQuorum(Request[_DescribeQuorumRequest]):  # type: ignore[misc]
    API_KEY = 55

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class([("__cluster_metadata", [(0, {})], {})], {})

"""What each login may do on a broker, as the broker itself tells it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Schema, String

from contracts.topics import TOPICS
from services.infrastructure.kafka import security_options

LOGINS = ("decider", "projector", "invoker", "message-router", "gateway", "demo")
MAY = """
    switchboard.commands                rw  -   w   -   w   w
    switchboard.events                  rw  r   r   r   r   r
    switchboard.outcomes                rw  r   -   -   r   r
    switchboard.channel-state           rws -   -   -   r   -
    switchboard.signatures              rws -   r   -   -   -
    switchboard.dead-letters            w   -   w   rw  -   -
    switchboard.invocation-requests     -   -   r   -   w   w
    switchboard.invocations             -   -   w   -   -   r
    switchboard.message-requests        -   -   -   r   w   w
    switchboard.message-decisions       -   -   -   rw  r   r
    switchboard.scheduling-resources    -   -   -   r   w   -
    switchboard.rates                   -   -   -   r   w   -
    switchboard.usage                   -   -   -   rw  -   -
    switchboard.access-log              -   -   -   -   w   -
    switchboard.outbox-positions        -   -   -   rw  -   -
    switchboard.partition-growth        r   r   r   r   r   r
    group switchboard.decider           yes -   -   -   -   -
    group switchboard.projector         -   yes -   -   -   -
    group switchboard.invoker           -   -   yes -   -   -
    group switchboard.message-router    -   -   -   yes -   -
    group demo                          -   -   -   -   -   yes
    group of-somebody-else              -   -   -   -   -   -
    transactions switchboard.decider-0  yes -   -   -   -   -
    transactions switchboard.message-router-0  -  -  -  yes -  -
    transactions of-somebody-else       -   -   -   -   -   -
    the cluster                         -   -   -   -   -   -
"""
"""The services in the order of `LOGINS`. ``r`` and ``w``: reads and writes the topic, ``s``: reads its settings."""

READ, WRITE, DESCRIBE, DESCRIBE_CONFIGS = 1 << 3, 1 << 4, 1 << 8, 1 << 10
"""Kafka's operations, as bits of a set of them."""
_DENIED = {30: "group", 53: "transactional id"}
_GROUP, _TRANSACTION = 0, 1


class _MetadataResponse(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 8
    _PARTITIONS = Array(
        *(("error_code", Int16), ("partition", Int32), ("leader", Int32), ("leader_epoch", Int32)),
        *(("replicas", Array(Int32)), ("isr", Array(Int32)), ("offline", Array(Int32))),
    )
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            Array(("node_id", Int32), ("host", String("utf-8")), ("port", Int32), ("rack", String("utf-8"))),
        ),
        ("cluster_id", String("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            Array(
                *(("error_code", Int16), ("topic", String("utf-8")), ("is_internal", Boolean)),
                *(("partitions", _PARTITIONS), ("authorized_operations", Int32)),
            ),
        ),
        ("authorized_operations", Int32),
    )


class _MetadataRequest(RequestStruct):  # type: ignore[misc]
    """Version 8, the first that tells what the login may do; aiokafka knows 5."""

    API_KEY = 3
    API_VERSION = 8
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        ("topics", Array(String("utf-8"))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
    )


class _Metadata(Request[_MetadataRequest]):  # type: ignore[misc]
    API_KEY = 3

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class(
            topics=[topic.name for topic in TOPICS],
            allow_auto_topic_creation=False,
            include_cluster_authorized_operations=True,
            include_topic_authorized_operations=True,
        )


def of_topic(operations: int) -> str:
    known = {"r": READ, "w": WRITE, "s": DESCRIBE_CONFIGS}
    letters = "".join(letter for letter, operation in known.items() if operations & operation)
    assert operations & ~(READ | WRITE | DESCRIBE | DESCRIBE_CONFIGS) == 0
    return letters or "-"


@asynccontextmanager
async def client(login: dict[str, str]) -> AsyncIterator[AIOKafkaAdminClient]:
    servers = login["SWITCHBOARD_KAFKA_BOOTSTRAP_SERVERS"]
    admin = AIOKafkaAdminClient(bootstrap_servers=servers, **security_options(login))
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def rights(login: dict[str, str]) -> dict[str, str]:
    async with client(login) as admin:
        metadata = await admin._send_request(_Metadata())
        found = {name: of_topic(max(operations, 0)) for _, name, _, _, operations in metadata.topics}
        for line in filter(str.strip, MAY.splitlines()):
            kind, name = line.split()[:2]
            if kind in ("group", "transactions"):
                asked = FindCoordinatorRequest(name, _GROUP if kind == "group" else _TRANSACTION)
                code = (await admin._send_request(asked)).error_code
                found[f"{kind} {name}"] = "-" if code in _DENIED else "yes"
        return found | {"the cluster": of_topic(metadata.authorized_operations)}

"""Where a backup ends: a moment of each partition at which every transaction is in it whole or not at all.

The deciders and the message routers write in transactions that span topics. For each partition, this takes their
transactional ids over and writes an aborted transaction to all their topics. What lies before its records is decided,
and whole: had the owner taken the id back meanwhile, the abort would be refused. The owner starts over by itself, as
after any fence.
"""

from __future__ import annotations

import time
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from contracts.kafka.partition_growth import read_partitions
from contracts.topics import COMPACTED, MESSAGE_REQUESTS, TOPICS
from services.audit.log.errors import AuditError
from services.audit.log.kafka_log import KafkaLog
from services.audit.log.source import OffsetRange
from services.decider import fencing as decider
from services.infrastructure.topics import topic_settings
from services.infrastructure.transactions import OutgoingRecord, TransactionalProducer
from services.message_router import publisher as message_router

_ATTEMPTS = 20
"""An owner may take its id back before the abort, again and again where the machine is busy."""
_WRITTEN_BY_OWNERS = {topic.name for topic in (*decider.WRITTEN_TOPICS, *message_router.WRITTEN_TOPICS)}


async def consistent_cut(
    log: KafkaLog, bootstrap_servers: str, security: dict[str, Any]
) -> dict[TopicPartition, OffsetRange]:
    """The offsets of every topic that a backup has.

    The ends of the topics that others write are taken last, of the commands too: a command that a decider forwarded
    before its cut is then among those of its home. One that it forwards later may be there as well, and is forwarded
    again, which its id makes harmless. Raises `AuditError` while the partitions grow.
    """
    growth = await read_partitions(bootstrap_servers=bootstrap_servers, **security)
    if (unfinished := growth.unfinished) is not None:
        raise AuditError(
            f"The partitions grow from {unfinished.before} to {unfinished.to}; finish that first: `switchboard topics "
            f"grow --partitions {unfinished.to}`."
        )
    ends: dict[TopicPartition, int] = {}
    for _, partition in await log.offset_ranges(MESSAGE_REQUESTS.name):
        name, records = message_router.transactional_id(partition), message_router.fence_records(partition)
        ends |= await _fenced_ends(bootstrap_servers, security, name, records)
    for partition in range(log.partitions):
        name, records = decider.transactional_id(partition), decider.fence_records(partition, log.partitions)
        ends |= await _fenced_ends(bootstrap_servers, security, name, records)
    ranges = await log.offset_ranges(*(topic.name for topic in TOPICS))
    # A growth that began since has moved channels to partitions that the cut does not have.
    if not growth == log.growth == await read_partitions(bootstrap_servers=bootstrap_servers, **security):
        raise AuditError("The partitions grew while the backup began; back up again once that is finished.")
    return {
        source: OffsetRange(now.first, ends[source] if source.topic in _WRITTEN_BY_OWNERS else now.end)
        for source, now in ranges.items()
    }


async def uncompacted_s(bootstrap_servers: str, security: dict[str, Any]) -> float:
    """For so many seconds after it is written, no record makes the broker remove an older one of its key."""
    found = await topic_settings(bootstrap_servers, [topic.name for topic in COMPACTED], security)
    return min(int(settings["min.compaction.lag.ms"]) for settings in found.values()) / 1000


async def _fenced_ends(
    bootstrap_servers: str, security: dict[str, Any], transactional_id: str, records: list[OutgoingRecord]
) -> dict[TopicPartition, int]:
    """The end of each of the records' partitions, at one moment of those who write with this id."""
    for attempt in range(_ATTEMPTS):
        producer = TransactionalProducer(bootstrap_servers, transactional_id, security)
        try:
            await producer.start()
            await producer.begin()
            ends = await producer.append(records, time.time_ns() // 1_000_000)
            await producer.abort()
        except KafkaError:
            if attempt + 1 == _ATTEMPTS:
                raise
        else:
            return ends
        finally:
            await producer.discard()
    raise AssertionError

"""Verifying partitions side by side, each in a process of its own, with those that it shares channels with."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

from aiokafka import TopicPartition

from services.audit.log.errors import AuditError
from services.audit.log.kafka_log import KafkaLog
from services.audit.log.source import OffsetRange, Progress
from services.audit.verification.anchor import Anchor
from services.audit.verification.verify import Report, verify
from services.infrastructure.kafka import security_options

WORTHWHILE = 500_000
"""A process takes a second to start; a log of fewer offsets is read as fast by one."""


def jobs_for(ranges: Mapping[TopicPartition, OffsetRange]) -> int:
    """As many as there are processors and partitions, where the log is long enough."""
    if sum(offsets.end - offsets.first for offsets in ranges.values()) < WORTHWHILE:
        return 1
    return min(os.cpu_count() or 1, len(ranges))


async def verify_in_parallel(
    bootstrap_servers: str,
    ranges: Mapping[TopicPartition, OffsetRange],
    families: Sequence[Sequence[TopicPartition]],
    anchor: Anchor | None,
    jobs: int,
    progress: Progress = lambda _: None,
) -> Report:
    """What `verify` reports of the ``families`` of partitions, read by ``jobs`` processes. Raises `AuditError`."""
    loop = asyncio.get_running_loop()
    whole = Report()

    async def one(family: Sequence[TopicPartition]) -> Report:
        numbers = [source.partition for source in family]
        report = await loop.run_in_executor(pool, _verify, bootstrap_servers, numbers, anchor)
        progress(sum(ranges[source].end - ranges[source].first for source in family))
        return report

    # Ctrl-C reaches the whole group of processes: they end by it at once, and without a word.
    ended = (signal.SIGINT, signal.SIG_DFL)
    try:
        with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=signal.signal, initargs=ended) as pool:
            for report in await asyncio.gather(*(map(one, families))):
                whole.add(report)
    except BrokenProcessPool:
        raise AuditError(
            "A process that read a partition was ended from outside; --jobs 1 reads one partition after the other."
        ) from None
    whole.findings.sort(key=lambda finding: finding.position)
    return whole


def _verify(bootstrap_servers: str, partitions: Sequence[int], anchor: Anchor | None) -> Report:
    gc.set_threshold(50_000, 20, 100)

    async def read() -> Report:
        async with KafkaLog(bootstrap_servers, security_options()) as log:
            return await verify(log, anchor, partitions=partitions)

    return asyncio.run(read())

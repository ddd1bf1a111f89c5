"""Verifying partitions side by side: they know nothing of each other, so each is read in a process of its own."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from services.audit.anchor import Anchor
from services.audit.kafka_log import KafkaLog
from services.audit.log import Progress, Source, Span
from services.audit.verify import Report, verify
from services.infrastructure.kafka import security_options

WORTHWHILE = 500_000
"""A process takes a second to start; a log of fewer offsets is read as fast by one."""


def jobs_for(spans: Mapping[Source, Span]) -> int:
    """As many as there are processors and partitions, where the log is long enough."""
    if sum(span.end - span.first for span in spans.values()) < WORTHWHILE:
        return 1
    return min(os.cpu_count() or 1, len(spans))


async def verify_side_by_side(
    bootstrap_servers: str,
    spans: Mapping[Source, Span],
    anchor: Anchor | None,
    jobs: int,
    progress: Progress = lambda _: None,
) -> Report:
    """What `verify` reports, of the partitions in ``spans``, read by so many processes at a time."""
    loop = asyncio.get_running_loop()
    whole = Report()

    async def one(source: Source, span: Span) -> Report:
        report = await loop.run_in_executor(pool, _verify_one, bootstrap_servers, source.partition, anchor)
        progress(span.end - span.first)
        return report

    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for report in await asyncio.gather(*(one(source, span) for source, span in spans.items())):
            whole.add(report)
    whole.findings.sort(key=lambda finding: finding.position)
    return whole


def _verify_one(bootstrap_servers: str, partition: int, anchor: Anchor | None) -> Report:
    gc.set_threshold(50_000, 20, 100)

    async def read() -> Report:
        async with KafkaLog(bootstrap_servers, security_options()) as log:
            return await verify(log, anchor, partitions=[partition])

    return asyncio.run(read())

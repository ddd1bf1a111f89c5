"""Rounds of restore: killed after each of its steps, at the second begin too, it ends as one that was not killed."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from contracts import topics
from contracts.kafka.publisher import Publisher
from contracts.message import rfc3339
from services.audit.log.backup import Backup, new_directory, open_backup, write_backup
from services.audit.log.kafka_log import KafkaLog
from services.audit.log.restore import restore
from services.audit.verification.verify import verify
from services.cli.consistent_cut import consistent_cut
from services.decider.grow_partitions import grow
from services.infrastructure.unfinished_restore import delete_topics, is_unfinished
from tests.faults.decider.process import ProcessOptions
from tests.faults.decider.testbed import Testbed
from tests.read_models import load

STEPS = ("marked", "deleted", "created", "filled", "compared", "finished")
PARTITIONS, GROWN = 2, 4
_NAMES = [topic.name for topic in topics.TOPICS]
_FILLED_AT_MOST = 50
_TIMEOUT_S = 120


async def _back_up(testbed: Testbed, rng: random.Random, directory: Path) -> Backup:
    """Of a log that has grown, with transactions and aborted records."""
    servers = testbed.bootstrap_servers
    await testbed.start(ProcessOptions(own=None, partitions=PARTITIONS)).ready()
    async with Publisher(servers, source="faults", account="acme") as publisher:
        channels = [f"ch-{number}" for number in range(8)]
        await load(publisher, rng, channels, 40, timeout=_TIMEOUT_S)
        await grow(servers, {}, GROWN)
        await load(publisher, rng, channels, 40, timeout=_TIMEOUT_S)
    testbed.end_deciders()
    with new_directory(directory):
        async with KafkaLog(servers, {}) as log:
            ranges = await consistent_cut(log, servers, {})
            await write_backup(directory, log, ranges, made_at=rfc3339(0), release="faults")
    return open_backup(directory)


async def _content(servers: str, backup: Backup) -> list[object]:
    """The ends and what is read up to them; a compacted topic is compared by the restore itself."""
    found: list[Any] = []
    async with KafkaLog(servers, {}) as log:
        for source, offsets in sorted((await log.offset_ranges(*_NAMES)).items()):
            cut = backup.manifest.ranges()[source]
            found.append((source, offsets.first, min(offsets.end, cut.end)))
            async for batch in log.read(source, cut):
                found += [(source, one.offset, one.timestamp, one.key, one.value, tuple(one.headers)) for one in batch]
    return found


async def _kill(servers: str, directory: Path, step: str, count: int) -> None:
    arguments = ("-m", "tests.faults.restore.process", servers, str(directory), step, str(count))
    await (await asyncio.create_subprocess_exec(sys.executable, *arguments)).wait()


async def _play(testbed: Testbed, backup: Backup, directory: Path, before: list[object], step: str, count: int) -> Any:
    servers = testbed.bootstrap_servers
    await delete_topics(servers, {}, _NAMES)
    if step == "deleted":  # there is something to delete only where a restore was killed before
        await _kill(servers, directory, "filled", count)
    await _kill(servers, directory, step, count if step == "filled" else 1)
    unfinished = await is_unfinished(servers, {})
    if unfinished == (step == "finished"):
        return [f"after {step} the mark is {'' if unfinished else 'not '}there"]
    if unfinished:
        await restore(backup, servers, {})
    found = [f"{step}: the mark is left"] if await is_unfinished(servers, {}) else []
    if await _content(servers, backup) != before:
        found.append(f"{step}: the log is not as it was")
    async with KafkaLog(servers, {}) as log:
        return found + [f"{step}: {one}" for one in (await verify(log)).findings]


async def _play_all(testbed: Testbed, rng: random.Random, directory: Path, steps: Sequence[str]) -> int:
    backup = await _back_up(testbed, rng, directory)
    before = await _content(testbed.bootstrap_servers, backup)
    violated = 0
    for step in steps:
        count = rng.randrange(1, _FILLED_AT_MOST)
        found = await _play(testbed, backup, directory, before, step, count)
        print(f"{'VIOLATED' if found else 'holds'}: killed after {step} ({count})", flush=True)
        for one in found:
            print(f"       {one}", flush=True)
        violated += bool(found)
    return violated


def play_rounds(rounds: int, seed: int, steps: Sequence[str], directory: Path) -> int:
    """Kills so many restores of one backup, each step in turn; returns how many have violations."""
    with Testbed(directory / "restore", PARTITIONS) as testbed:
        turns = [steps[number % len(steps)] for number in range(rounds)]
        rng = random.Random(f"{seed}")
        return asyncio.run(_play_all(testbed, rng, directory / "backup", turns))
